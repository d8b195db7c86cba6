"""`timm/<name>`: any image model of timm as a frozen encoder.

Weights come from a file, from timm's hub, or are untrained if that is asked for; never by
accident. The input rule is timm's data configuration, that of the `config.json` beside the weights
if there is one, but for one thing: the whole image is squashed to the model's input size, where
timm would crop its centre, because a crop cuts tissue away.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from model_zoo import pooling
from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import hub, parts, settings
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmModel(Encoder):
    """A timm model without its classifier.

    Poolings: `default` is the model's own; `mean`, `cls` and `cls+mean` pool the tokens of
    `forward_features` and are for vision transformers. `tokens` likewise; `maps` are these as a
    grid, or of other networks their stages, as timm's `features_only` gives them, side by side.
    """

    poolings = ("default", *pooling.POOLINGS)
    card = Card(
        title="timm",
        paper="see the model's page on the hub",
        code_licence="Apache-2.0",
        weights_licence="see the model's page on the hub",
        weights_from="huggingface.co/timm",
        pretraining="see the model's page on the hub",
        status="library code",
    )
    arguments: Mapping[str, Any] = MappingProxyType({})
    """What a `config.json` beside the weights has the network made with."""

    def build(self, weights: Path | str | None) -> nn.Module:
        """The timm network with `num_classes=0`; sets input rule, patch size and card."""
        architecture = self.name.removeprefix("timm/")
        source = None if weights == RANDOM else checkpoints.find(self.name, weights)
        saved = source.path.with_name("config.json") if source else None
        if saved is not None and _is_timms(saved):
            network = self._as_saved(architecture, saved)
        else:
            network = _create(architecture, num_classes=0)
        config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        self.input_rule = _input_rule(self.name, network)
        self.patch_size = _patch_size(network)
        self.reduced = _has_tokens(network)  # convolutions are not faster in bfloat16
        self.card = replace(
            self.card,
            title=architecture,
            weights_licence=config.get("license") or self.card.weights_licence,
            weights_from=f"huggingface.co/{config.get('hf_hub_id') or 'timm'}",
            pretraining=f"timm's tag: {config.get('tag') or 'none'}",
        )
        self._check_pooling(network)
        if weights == RANDOM:
            return network

        stated = saved is not None and _is_timms(saved)
        self.used = len(network.state_dict())
        self.assumed = _assumed(network, self.input_rule, f"{saved}" if stated else "timm")
        leftovers = _classifier_keys(config)
        if source is not None:
            self.weights_file = source.path
            return parts.fill(network, str(source), self.name, leftovers)
        tensors, origin = _from_hub(self.name, architecture, config)
        return checkpoints.fill(
            network, tensors, name=self.name, source=origin, leftovers=leftovers
        )

    def _as_saved(self, architecture: str, file: Path) -> nn.Module:
        """The network as timm's `save_for_hf` describes it beside its weights."""
        told = settings.read(file)
        name = architecture.partition(".")[0]
        if told["architecture"] != name:
            raise UserError(
                f"{file} is of the architecture '{str(told['architecture'])[:60]}', not of model "
                f"'{self.name}'; give the weights as --weights timm/{told['architecture']}=PATH"
            )
        given = told.get("pretrained_cfg") or told
        for key, check in (("mean", settings.channels), ("std", settings.spreads)):
            if given.get(key) is not None:
                check(given[key], key, file)
        try:
            network: nn.Module = timm.create_model(f"local-dir:{file.parent}", num_classes=0)
            with torch.device("meta"):
                plain = timm.create_model(name, num_classes=0)
            self.arguments = _of_effect(dict(told.get("model_args") or {}), plain)
        except Exception as error:  # of whatever the settings lead to
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{file} does not describe a model that timm {timm.__version__} can make "
                f"({type(error).__name__}: {reason}); correct it, or update timm"
            ) from error
        pool = told.get("global_pool")
        if pool is not None and pool != getattr(network, "global_pool", pool):
            raise UserError(
                f"{file} states global_pool '{pool}', but timm makes a network with "
                f"'{network.global_pool}' of its model_args; correct one of the two"
            )
        return network

    def _wrapper_identity(self) -> str:
        # What a network is made with changes features, but may change no tensor.
        made = f", {hashing.canonical_json(self.arguments).decode()}" if self.arguments else ""
        return super()._wrapper_identity() + made

    def _check_pooling(self, network: nn.Module) -> None:
        if self.pooling == "default":
            return
        if not _has_tokens(network):
            raise UserError(
                f"model '{self.name}' is not a vision transformer with tokens; "
                f"leave out its pooling '{self.pooling}'"
            )
        if self.pooling != "mean" and getattr(network, "cls_token", None) is None:
            raise UserError(f"model '{self.name}' has no class token; use the pooling 'mean'")

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling == "default":
            features: Tensor = self.network(x)
            return features
        return pooling.pool(self.pooling, self._features(x), self._prefix)

    def _tokens(self, x: Tensor) -> Tensor:
        if not _has_tokens(self.network):
            raise NotImplementedError(f"model '{self.name}' is not a transformer with patch tokens")
        return self._features(x)[:, self._prefix :]

    def _maps(self, x: Tensor) -> list[Tensor]:
        if _has_tokens(self.network):
            return super()._maps(x)
        network: Any = self.network
        if not hasattr(network, "forward_intermediates"):
            raise NotImplementedError(f"model '{self.name}' has no feature maps")
        stages = network.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW")
        return [side_by_side(stages, x.shape[-2])]

    def _features(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network.forward_features(x)  # type: ignore[operator]
        return tokens

    @property
    def _prefix(self) -> int:
        return int(self.network.num_prefix_tokens)  # type: ignore[arg-type]


def _of_effect(arguments: dict[str, Any], plain: nn.Module) -> dict[str, Any]:
    """Those that make another network than `plain`, and do not show in its tensors or input."""
    usual = {"global_pool": getattr(plain, "global_pool", None)}
    shown = ("num_classes", "in_chans", "img_size")
    return {k: v for k, v in arguments.items() if k not in shown and v != usual.get(k)}


def _is_timms(file: Path) -> bool:
    """Whether a `config.json` is one of timm, and not of another library or tool."""
    return file.is_file() and isinstance(settings.read(file).get("architecture"), str)


def _create(architecture: str, **options: Any) -> Any:
    """timm's network, or an error that names what it may have been meant to be."""
    name, _, tag = architecture.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.lower(), timm.list_models(), n=3, cutoff=0.6)
        hint = " or ".join(f"timm/{other}" for other in near)
        raise UserError(
            f"timm {timm.__version__} has no model '{name}'; "
            + (f"did you mean {hint}?" if hint else "timm.list_models() lists all")
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(name)]
    if tag and tag not in tags:
        listed = ", ".join(tags) or "none"
        raise UserError(f"timm/{name} has no pretrained tag '{tag}'; it has: {listed}")
    return timm.create_model(architecture, **options)


def _from_hub(
    name: str, architecture: str, config: dict[str, Any]
) -> tuple[dict[str, Tensor], str]:
    """State dict of the pretrained model, classifier included, and where it came from.

    With its classifier, because timm fills strictly only then.
    """
    overlay, origin = None, f"huggingface.co/{config.get('hf_hub_id') or 'timm'}"
    cached = _cached(config)
    if cached is not None:
        overlay, origin = {"file": str(cached)}, str(cached)
    elif not hub.reachable():
        raise _no_weights(name, config, "the hub cannot be reached from here")
    try:
        network = _create(architecture, pretrained=True, pretrained_cfg_overlay=overlay)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise _no_weights(name, config, f"{type(error).__name__}: {reason}") from error
    return network.state_dict(), origin


def _no_weights(name: str, config: dict[str, Any], reason: str) -> UserError:
    page = config.get("hf_hub_id")
    where = f"https://huggingface.co/{page}" if page else "timm's documentation"
    return UserError(
        f"no pretrained weights for model '{name}' ({reason}); get model.safetensors from {where} "
        f'and pass --weights {name}=PATH, or ask for weights="{RANDOM}"'
    )


def _cached(config: dict[str, Any]) -> Path | None:
    """The file that an earlier download left in the hub's cache."""
    repository, _, revision = (config.get("hf_hub_id") or "").partition("@")
    if not repository:
        return None
    named = config.get("hf_hub_filename")
    for file in (named,) if named else _HUB_FILES:
        path = hub.cached(HubFile(repository, file), revision or None)
        if path is not None:
            return path
    return None


def _input_rule(name: str, network: nn.Module) -> InputRule:
    config: dict[str, Any] = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"model '{name}' wants input {channels} x {height} x {width}; "
            "only square colour inputs are supported: choose another model"
        )
    return settings.library_rule(name, height, config)


def _patch_size(network: nn.Module) -> int | None:
    size = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if not _has_tokens(network) or size is None or size[0] != size[1]:
        return None
    return int(size[0])


def _assumed(network: nn.Module, rule: InputRule, stated_by: str) -> tuple[str, ...]:
    """What tensors do not tell of a network: its heads, and how images are prepared."""
    blocks: Any = getattr(network, "blocks", None) or [None]
    heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None)
    told = (f"{heads} attention heads per block, as {stated_by} has it",) if heads else ()
    return (*told, rule.told(stated_by))


def _has_tokens(network: nn.Module) -> bool:
    """True for the vision transformers of timm, which say how many tokens precede the patches."""
    return hasattr(network, "num_prefix_tokens")


def _classifier_keys(config: dict[str, Any]) -> tuple[str, ...]:
    """Patterns of the classifier's keys, which a file may hold and the encoder lacks."""
    classifier = config.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    return tuple(f"{name}.*" for name in names)
