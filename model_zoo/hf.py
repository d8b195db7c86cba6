"""`hf/<id>`: any vision model of transformers as a frozen encoder.

The id is a repository of the Hugging Face hub, or a local folder as `save_pretrained` writes one.
Size, mean, std and filter are those of its `preprocessor_config.json`; the whole image is squashed
to the square, where the library may crop its centre, because a crop cuts tissue away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn
from transformers.utils import logging
from transformers.utils.hub import cached_file

from model_zoo import hub, pooling
from model_zoo.cards import Card, HubFile
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.transforms import InputRule, Interpolation
from model_zoo.weights import KeyReport
from ultrabench_eval.core.errors import UserError

_PREPROCESSOR = "preprocessor_config.json"
_FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Of heads and of the text towers that some repositories hold beside the vision model.
_LEFTOVERS = ("*classifier*", "*head*", "decoder*", "text_*", "logit_*", "*_projection.weight")


class HFModel(Encoder):
    """A model of transformers: features [B, D], tokens [B, N, D].

    Poolings: `default` is the class token where there is one, else the mean over patch tokens, or
    over the places of a feature map; `pooler` is the library's own pooled output. Of a model with
    a text tower (CLIP, SigLIP) the vision tower is used.
    """

    poolings = ("default", "cls", "mean", "cls+mean", "pooler")
    reduced = True
    card = Card(
        title="transformers",
        paper="see the model's page on the hub",
        code_licence="Apache-2.0",
        weights_licence="see the model's page on the hub",
        weights_from="huggingface.co",
        pretraining="see the model's page on the hub",
        status="library code",
    )

    def build(self, weights: Path | str | None) -> nn.Module:
        """The vision model, filled to the last key; sets input rule, patch size and card."""
        place = self.name.removeprefix("hf/")
        if weights not in (None, RANDOM):
            place = str(weights)
            if Path(place).is_file():
                place = str(Path(place).parent)
        self._check_place(place)
        try:
            config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
            network, report = _load(place, config, weights == RANDOM)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"model '{self.name}' cannot be loaded from {place} ({type(error).__name__}: "
                f"{reason}); give a folder with config.json and model.safetensors, or a hub id"
            ) from error
        self._check_keys(place, report)
        vision = getattr(config, "vision_config", None) or config
        self.input_rule = self._rule(place, vision, weights == RANDOM)
        patch = getattr(vision, "patch_size", None)
        self.patch_size = patch if isinstance(patch, int) else None
        local = Path(place) / "model.safetensors"
        if weights != RANDOM and local.is_file():
            self.weights_file = local
        self.card = replace(self.card, title=place, weights_from=f"huggingface.co/{place}")
        return network

    def _check_place(self, place: str) -> None:
        if Path(place).expanduser().is_dir():
            return
        known = hub.cached(HubFile(place, "config.json")) if place.count("/") < 2 else None
        if known is None and not hub.reachable():
            raise UserError(
                f"no weights for model '{self.name}': {place} is no folder here, and the hub "
                "cannot be reached; fetch the repository elsewhere and pass --weights "
                f"{self.name}=FOLDER"
            )

    def _check_keys(self, place: str, report: KeyReport) -> None:
        if self.pooling != "pooler":  # then what pools is not used, and may be untrained
            missing = [key for key in report.missing if "pooler." not in key]
            report = report._replace(missing=missing)
        if not report.fits:
            raise UserError(
                f"{place} does not fit model '{self.name}': {report}; give the checkpoint that was "
                "made for this configuration"
            )

    def _rule(self, place: str, vision: Any, random: bool) -> InputRule:
        file = cached_file(place, _PREPROCESSOR, _raise_exceptions_for_missing_entries=False)
        if file is None:
            if not random:
                raise UserError(
                    f"{place} holds no {_PREPROCESSOR}, so the input of model '{self.name}' is not "
                    "known; put that file there"
                )
            return InputRule(int(vision.image_size))
        given = json.loads(Path(file).read_text())
        size = given.get("crop_size") if given.get("do_center_crop") else None
        size = size or given.get("size") or getattr(vision, "image_size", None)
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        normalise = given.get("do_normalize", True)
        mean, std = given.get("image_mean"), given.get("image_std")
        if not isinstance(size, int) or (normalise and not (mean and std)):
            raise UserError(
                f"{file} states no size, mean or std for model '{self.name}'; complete it"
            )
        return InputRule(
            size=size,
            mean=tuple(mean) if normalise else (0.0, 0.0, 0.0),
            std=tuple(std) if normalise else (1.0, 1.0, 1.0),
            interpolation=_FILTERS.get(given.get("resample", 2), "bilinear"),
        )

    def _forward(self, x: Tensor) -> Tensor:
        output = self.network(pixel_values=x)
        if self.pooling == "pooler":
            pooled: Tensor | None = getattr(output, "pooler_output", None)
            if pooled is None:
                raise UserError(f"model '{self.name}' has no pooler; choose another pooling")
            return pooled.flatten(1)
        tokens, prefix = self._sequence(output)
        how = self.pooling
        if how == "default":
            how = "cls" if prefix else "mean"
        if how != "mean" and not prefix:
            raise UserError(f"model '{self.name}' has no class token; use the pooling 'mean'")
        return pooling.pool(how, tokens, prefix)

    def _tokens(self, x: Tensor) -> Tensor:
        if self.patch_size is None:
            raise NotImplementedError(f"model '{self.name}' has no patch tokens")
        tokens, prefix = self._sequence(self.network(pixel_values=x))
        return tokens[:, prefix:]

    def _sequence(self, output: Any) -> tuple[Tensor, int]:
        """Tokens [B, P + N, D] and P, of a sequence or of a map [B, D, H, W]."""
        last: Tensor = output.last_hidden_state
        if last.ndim == 4:
            return last.flatten(2).transpose(1, 2), 0
        if self.patch_size is None or self.input_size is None:
            return last, 0
        return last, max(0, last.shape[1] - (self.input_size // self.patch_size) ** 2)


def _load(place: str, config: Any, random: bool) -> tuple[nn.Module, KeyReport]:
    """The vision model, and how the file's keys compare with it."""
    if random:
        model: Any = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        report = KeyReport([], [], [])
    else:
        with _quiet():  # the library's own report goes on where it should stop
            model, info = transformers.AutoModel.from_pretrained(
                place,
                config=config,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
        report = KeyReport(
            sorted(info["missing_keys"]),
            [key for key in sorted(info["unexpected_keys"]) if not _is_leftover(key)],
            [
                f"{key}: {list(given)} in the file, {list(wanted)} in the model"
                for key, given, wanted in sorted(info["mismatched_keys"])
            ],
        )
    if not hasattr(model, "vision_model"):
        return model.float(), report
    start = "vision_model."
    report = report._replace(
        missing=[key for key in report.missing if key.startswith(start)],
        reshaped=[key for key in report.reshaped if key.startswith(start)],
    )
    return model.vision_model.float(), report


def _is_leftover(key: str) -> bool:
    return any(fnmatch(key, pattern) for pattern in _LEFTOVERS)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
