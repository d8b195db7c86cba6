"""`hf/<id>`: any vision model of transformers as a frozen encoder.

The id is a repository of the Hugging Face hub, or a local folder as `save_pretrained` writes one.
Images are prepared as its `preprocessor_config.json` states (`hf_input`); the whole image is
squashed to the square, where the library may crop its centre, because a crop cuts tissue away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging
from transformers.utils.hub import cached_file

from model_zoo import hf_input, pooling
from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import hub, parts, shards
from model_zoo.checkpoints.files import KeyReport, WeightsSource
from model_zoo.checkpoints.parts import Part
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule
from ultrabench_eval.core.errors import UserError

# As the library looks for them, the first one that is there.
_FILES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
# Of heads and of the text towers that some repositories hold beside the vision model.
_LEFTOVERS = ("*classifier*", "*head*", "decoder*", "text_*", "logit_*", "*_projection.weight")


class HFModel(Encoder):
    """A model of transformers: features [B, D], tokens [B, N, D], maps.

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

    flips: bool = False
    """Whether the network wants blue first and red last."""
    missing: tuple[str, ...] = ()
    """Tensors that the file lacks and the pooling does without, such as a pooler's."""
    unmasked: bool = False
    """Whether it hides patches at random unless it is told not to (ViTMAE)."""

    def build(self, weights: Path | str | None) -> nn.Module:
        """The vision model, filled to the last key; sets input rule, patch size and card."""
        place, source = self._find(weights)
        with self._told_as_sentence(place):
            config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
            if config.model_type == "vit_mae":
                self.unmasked, config.mask_ratio = True, 0.0
            if source is None:
                whole = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
            else:
                whole = self._filled(config, source)
        network: nn.Module = getattr(whole, "vision_model", whole).float()
        if source is not None:
            start = "" if network is whole else "vision_model."
            self.used = sum(start + key not in self.missing for key in network.state_dict())
        vision = getattr(config, "vision_config", None) or config
        if getattr(vision, "num_channels", 3) != 3:
            raise UserError(
                f"{place} wants images of {vision.num_channels} channels (num_channels in its "
                "config.json), and only colour is supported; choose another model"
            )
        with self._told_as_sentence(place):
            self._prepare_as_stated(place, getattr(vision, "image_size", None))
        patch = getattr(vision, "patch_size", None)
        self.patch_size = patch if isinstance(patch, int) else None
        self.card = replace(self.card, title=place, weights_from=f"huggingface.co/{place}")
        self.weights_file = source.path if source else None
        return network

    def _prepare_as_stated(self, place: str, image_size: Any) -> None:
        file = hf_input.file_of(place)
        if file is None and self.random_weights:
            self.input_rule = InputRule(int(image_size))
            return
        if file is None:
            raise UserError(
                f"{place} holds no {hf_input.FILE}, so that the input of model '{self.name}' is "
                "not known; put that file there"
            )
        self.input_rule, self.flips = hf_input.read(place, file, image_size)
        order = "; blue first" if self.flips else ""
        without = ("its pooler, which the file lacks, is not used",) if self.missing else ()
        self.assumed = (self.input_rule.told(file.name) + order, *without)
        hf_input.check(place, file, self._prepare, self.input_rule)

    def _find(self, weights: Path | str | None) -> tuple[str, WeightsSource | None]:
        """The place of the configuration, a folder or hub id, and the weights; None if random."""
        named = self.name.removeprefix("hf/") if weights in (None, RANDOM) else str(weights)
        random = weights == RANDOM
        path = Path(named).expanduser()
        if path.is_dir():
            return str(path), None if random else WeightsSource(self._in_folder(path))
        if path.is_file() or "#" in named:
            source = checkpoints.find(self.name, named) or WeightsSource(path)
            if source.path.suffix == ".json" and not shards.is_index(source.path):
                raise UserError(
                    f"{source.path} describes a model and holds no weights; name its weights, "
                    f"or the folder: --weights {self.name}={source.path.parent}"
                )
            if not source.path.with_name("config.json").is_file():
                raise UserError(
                    f"there is no config.json beside {source.path}, so that the network of model "
                    f"'{self.name}' is not known; put that of the model there, or see `ubench "
                    f"models {source.path}`, which tells what the file holds"
                )
            return str(source.path.parent), source
        self._check_place(named)
        return named, None if random else WeightsSource(self._from_hub(named))

    def _in_folder(self, folder: Path) -> Path:
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{folder} holds an adapter (adapter_config.json), not a whole model; merge it "
                "into its base model with peft and save that"
            )
        known = [folder / name for name in _FILES if (folder / name).is_file()]
        if known:
            return known[0]
        found = checkpoints.find(self.name, folder)  # tells what is there in place of them
        return found.path if found else folder

    def _from_hub(self, place: str) -> Path:
        """The weights of a repository, from the hub or its cache."""
        with self._told_as_sentence(place):
            for name in _FILES:
                file = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
                if file is None:
                    continue
                if shards.is_index(Path(file)):
                    told = shards.names(Path(file))
                    for part in told:
                        cached_file(place, part)
                return Path(file)
        raise UserError(
            f"{place} holds none of {', '.join(_FILES)} for model '{self.name}'; "
            "choose another repository"
        )

    def _check_place(self, place: str) -> None:
        known = hub.cached(HubFile(place, "config.json")) if place.count("/") < 2 else None
        if known is None and not hub.reachable():
            raise UserError(
                f"no weights for model '{self.name}': {place} is not a folder here, and the hub "
                "cannot be reached; fetch the repository elsewhere and pass --weights "
                f"{self.name}=FOLDER"
            )

    @contextmanager
    def _told_as_sentence(self, place: str) -> Iterator[None]:
        """Whatever the library raises about the files of a place becomes a sentence."""
        try:
            yield
        except (UserError, MemoryError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"model '{self.name}' cannot be loaded from {place} ({type(error).__name__}: "
                f"{reason}); give a folder with config.json and model.safetensors, or a hub id"
            ) from error

    def _filled(self, config: Any, source: WeightsSource) -> Any:
        """The library's model, filled from the file and no other."""
        content = checkpoints.read(source.path)
        with torch.device("meta"):
            empty: Any = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]

        def report(part: Part) -> KeyReport:
            model, differences = _load(type(empty), config, part.tensors)
            return self._relevant(differences, hasattr(model, "vision_model"))

        # The library knows more names than the network has, so that it looks at the top first.
        part = Part("", checkpoints.tensors_of(content), ())
        differences = report(part) if part.tensors and not source.entry else None
        if differences is None or not differences.fits:
            try:
                part = parts.fitting(
                    content, empty.state_dict(), report, name=self.name, source=source
                )
            except UserError:
                if differences is None:
                    raise
                raise UserError(
                    f"{source.path} does not fit model '{self.name}': {differences}; give the "
                    "checkpoint that was made for this configuration"
                    f"{parts.told(content, source.path)}"
                ) from None
        source = WeightsSource(source.path, part.entry or None)
        model, found = _load(type(empty), config, part.tensors)
        self.missing = tuple(found.missing)
        _check(model, part.tensors, source)
        own = empty.state_dict()
        unused = [key for key in part.tensors if _is_leftover(key) and key not in own]
        checkpoints.tell(source, (*unused, *part.beside))
        return model

    def _relevant(self, report: KeyReport, has_tower: bool) -> KeyReport:
        """The report without what gives no feature: a text tower, a pooler that is not used."""
        missing, reshaped = report.missing, report.reshaped
        if has_tower:
            missing = [key for key in missing if key.startswith("vision_model.")]
            reshaped = [key for key in reshaped if key.startswith("vision_model.")]
        if self.pooling != "pooler":  # then what pools may be untrained
            missing = [key for key in missing if "pooler." not in key]
        return KeyReport(missing, report.unexpected, reshaped)

    def _wrapper_identity(self) -> str:
        # What changes features, but neither a tensor nor the rule.
        more = ", blue first" * self.flips + ", all patches" * self.unmasked
        return super()._wrapper_identity() + more

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        x = super()._prepare(image)
        return x.flip(0) if self.flips else x

    def _run(self, x: Tensor, **options: Any) -> Any:
        """The library's output, of all patches in raster order."""
        if not self.unmasked:
            return self.network(pixel_values=x, **options)
        count = (x.shape[-1] // (self.patch_size or 1)) ** 2
        order = torch.arange(count, device=x.device, dtype=torch.float32)
        return self.network(pixel_values=x, noise=order.expand(len(x), -1), **options)

    def _forward(self, x: Tensor) -> Tensor:
        output = self._run(x)
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
        tokens, prefix = self._sequence(self._run(x))
        return tokens[:, prefix:]

    def _maps(self, x: Tensor) -> list[Tensor]:
        output = self._run(x, output_hidden_states=True)
        # Swin gives its stages as sequences too; networks without attention as maps only.
        stages = getattr(output, "reshaped_hidden_states", None)
        stages = stages or getattr(output, "hidden_states", None) or ()
        if stages and all(stage.ndim == 4 for stage in stages):
            return [side_by_side(stages, x.shape[-2])]
        if self.patch_size is None:
            raise NotImplementedError(f"model '{self.name}' has no feature maps")
        tokens, prefix = self._sequence(output)
        return [self._grid(tokens[:, prefix:], x)]

    def _sequence(self, output: Any) -> tuple[Tensor, int]:
        """Tokens [B, P + N, D] and P, of a sequence or of a map [B, D, H, W]."""
        last: Tensor = output.last_hidden_state
        if last.ndim == 4:
            return last.flatten(2).transpose(1, 2), 0
        if self.patch_size is None or self.input_size is None:
            return last, 0
        return last, max(0, last.shape[1] - (self.input_size // self.patch_size) ** 2)


def _load(kind: Any, config: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, KeyReport]:
    """The library's model filled from tensors, which it may rename, and how their keys compare."""
    with _quiet():  # the library only reports what should be an error
        model, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused by name
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
    return model, report


def _check(model: nn.Module, tensors: Mapping[str, Tensor], source: WeightsSource) -> None:
    """Refuse numbers of another kind, or such as are not finite."""
    own = model.state_dict()
    pairs = {}
    for key, value in tensors.items():
        names = key.split(".")
        ends = (".".join(names[start:]) for start in range(len(names)))
        end = next((end for end in ends if end in own), None)
        if end is not None:
            pairs[key] = value, own[end]
    checkpoints.check_kinds(pairs, source)
    for key, value in own.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(
                f"{source} holds NaN or infinite numbers in {key}; the training diverged or the "
                "file is damaged: take another checkpoint"
            )


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
