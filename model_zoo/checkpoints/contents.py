"""What is in a checkpoint: who wrote it, which networks it holds, and the lines that run one.

A network is recognised by names and shapes of its tensors. What is said of one was tried: the
library's network of that name has these very tensors.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor

from model_zoo.checkpoints import files, parts
from model_zoo.checkpoints.parts import Part

# Width and depth of the vision transformers that have names of their own.
_SIZES = {
    **{(192, 12): "tiny", (384, 12): "small", (768, 12): "base"},
    **{(1024, 24): "large", (1280, 32): "huge"},
}
# Blocks of each stage, and channels that the first of them gives.
_RESNETS: dict[tuple[tuple[int, ...], int], str] = {
    ((2, 2, 2, 2), 64): "resnet18",
    ((3, 4, 6, 3), 64): "resnet34",
    ((3, 4, 6, 3), 256): "resnet50",
    ((3, 4, 23, 3), 256): "resnet101",
    ((3, 8, 36, 3), 256): "resnet152",
}
# Of pretraining by masks: they stand among the encoder's tensors, which gives features without.
_UNUSED = ("mask_token", "masked_embed", "decoder*")
_PER_HEAD = 64  # channels of an attention head, by custom


@dataclass(frozen=True)
class Network:
    """A network in a checkpoint.

    Args:
        entry: names it after `PATH#`; "" for the top level.
        library: "timm" or "transformers".
        architecture: its name there: a model of timm, a class of transformers without "Config".
        arguments: what makes it with these shapes, besides what the name says.
        size: side of its input in pixels.
        dropped: what lies behind or beside it, such as "head (2 tensors)".
        assumed: what is not in the file, in words.
        unused: patterns of keys that the network is known not to use, see `parts.fill`.
    """

    entry: str
    library: str
    architecture: str
    arguments: Mapping[str, Any]
    size: int
    dropped: tuple[str, ...] = ()
    assumed: str = ""
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        own = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        library = {"timm": "timm's", "transformers": "transformers'"}[self.library]
        return f"{library} {self.architecture}" + (f" ({own})" if own else "")


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Args:
        path: of the file.
        writer: who writes files like it, such as "Lightning"; "" if that is not known.
        networks: those that were recognised.
        tops: names at its top level.
    """

    path: Path
    writer: str
    networks: tuple[Network, ...]
    tops: tuple[str, ...] = field(repr=False)

    @property
    def usual(self) -> tuple[Network, str]:
        """The network that is usually evaluated, and why, in brackets."""
        entry, why = parts.usual([one.entry for one in self.networks])
        return next(one for one in self.networks if one.entry == entry), why

    @property
    def weights(self) -> str:
        """What `--weights` takes for the usual network."""
        alone = len(self.networks) == 1
        return str(self.path) if alone else f"{self.path}#{self.usual[0].entry}"


def look(path: Path) -> Contents:
    """What a checkpoint file holds.

    Raises:
        UserError: it cannot be read.
    """
    return of(files.read(path), path)


def of(content: Mapping[str, Any], path: Path) -> Contents:
    """What a checkpoint holds, as `files.read` gives it."""
    writer = _writer(content)
    return Contents(path, writer, tuple(_networks(content, writer)), tuple(map(str, content)))


def told(content: Mapping[str, Any], path: Path) -> str:
    """What is in a checkpoint, as an addition to an error; "" if nothing was recognised."""
    found = of(content, path)
    if not found.networks:
        return ""
    written = f" written by {found.writer}" if found.writer else ""
    return (
        f"; {path.name} is a checkpoint{written} that holds {found.usual[0]}: `ubench models "
        f"{path}` prints the lines that run it"
    )


def _writer(content: Mapping[str, Any]) -> str:
    keys = {key for _, tensors in parts.dictionaries(content) for key in tensors}
    names = {name for key in keys for name in key.split(".")}
    writers = {
        "Lightning": "pytorch-lightning_version" in content,
        "DINO": "teacher" in content or "teacher" in names,
        "MoCo": bool(names & {"encoder_q", "momentum_encoder"}),
        "timm": {"arch", "state_dict"} <= content.keys() and "optimizer" in content,
        "transformers": "patch_embeddings" in names,
    }
    return " and ".join(writer for writer, wrote in writers.items() if wrote)


def _networks(content: Mapping[str, Any], writer: str) -> Iterator[Network]:
    """Those of the architecture that the file states, else those that are recognised."""
    stated = dict.fromkeys(_stated(content))
    found = [network for name in stated for network in _of(name, content)]
    if found:
        yield from found
        return
    for path, tensors in parts.dictionaries(content):
        plain = parts.unwrapped(tensors)
        for anchor, recognised in _ANCHORS.items():
            for key in plain:
                prefix = key.removesuffix(anchor)
                if prefix == key or prefix[-1:] not in ("", "."):
                    continue
                part = parts.under(path, prefix, plain)
                known = recognised(part.tensors, writer)
                if known is not None:
                    yield known.network(part)


def _stated(value: Any, depth: int = 3) -> Iterator[str]:
    """Texts in what training wrote beside the tensors that are names of timm's models."""
    if isinstance(value, str) and timm.is_model(value):
        yield value
    elif isinstance(value, Mapping) and depth:
        for one in value.values():
            yield from _stated(one, depth - 1)


def _of(name: str, content: Mapping[str, Any]) -> Iterator[Network]:
    """The networks of one of timm's architectures."""
    with torch.device("meta"):
        made: Any = timm.create_model(name, num_classes=0)
    own = set(made.state_dict())
    size = made.pretrained_cfg["input_size"][-1]
    for part in parts.all_of(content, frozenset(own)):
        if files.compare(made, part.tensors, (*parts.HEADS, *_UNUSED)).fits:
            yield _Known("timm", name, {}, size, "", own).network(part)


class _Known(NamedTuple):
    library: str
    architecture: str
    arguments: dict[str, Any]
    size: int
    assumed: str
    own: set[str]
    """Keys of the tensors that it has."""

    def network(self, part: Part) -> Network:
        """as found in a file."""
        left = [*(key for key in part.tensors if key not in self.own), *part.beside]
        unused = (one for one in _UNUSED if any(files.matches(key, (one,)) for key in left))
        dropped = tuple(files.grouped(left))
        return Network(part.entry, *self[:4], dropped, self.assumed, tuple(unused))


def _vit(tensors: Mapping[str, Tensor], writer: str) -> _Known | None:
    """A vision transformer by timm's names, which DINO, MoCo v3 and MAE use as well."""
    patches, table = tensors["patch_embed.proj.weight"], tensors.get("pos_embed")
    depth = _count(tensors, r"blocks\.(\d+)\.")
    if not _plausible(patches, table) or not depth:
        return None
    assert table is not None
    width, _, patch, _ = patches.shape
    prefix = int("cls_token" in tensors)
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    bare = math.isqrt(table.shape[1]) ** 2 == table.shape[1]  # positions of the patches alone
    grid = math.isqrt(table.shape[1] - (0 if bare else prefix + registers))
    stem = _SIZES.get((width, depth))
    name = f"vit_{stem}_patch{patch}_224"
    arguments: dict[str, Any] = {}
    if stem is None or not timm.is_model(name):
        name, stem = f"vit_base_patch{patch if patch in (8, 16, 32) else 16}_224", None
        heads = max(1, width // _PER_HEAD)
        arguments |= {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
    if stem == "small" and "MoCo" in writer:  # whose ViT-S has twice timm's number
        arguments["num_heads"] = 12
    if grid * patch != 224:
        arguments["img_size"] = grid * patch
    if not prefix:
        arguments |= {"class_token": False, "global_pool": "avg"}
    elif "fc_norm.weight" in tensors:
        arguments["global_pool"] = "avg"
    if registers:
        arguments["reg_tokens"] = registers
    if bare and prefix:
        arguments["no_embed_class"] = True
    if "blocks.0.ls1.gamma" in tensors:
        arguments["init_values"] = 1e-5
    if "blocks.0.attn.qkv.bias" not in tensors:
        arguments["qkv_bias"] = False
    if "norm_pre.weight" in tensors:
        arguments["pre_norm"] = True
    hidden = tensors.get("blocks.0.mlp.fc1.weight")
    if hidden is not None and len(hidden) != 4 * width:
        arguments["mlp_ratio"] = len(hidden) / width
    known = _tried(name, arguments, tensors, grid * patch)
    if known is None:
        return None
    return known._replace(assumed=_heads(arguments.get("num_heads", max(1, width // _PER_HEAD))))


def _resnet(tensors: Mapping[str, Tensor], writer: str) -> _Known | None:
    """A ResNet by torchvision's names, which timm and MoCo use as well."""
    stages = tuple(_count(tensors, rf"layer{n}\.(\d+)\.") for n in (1, 2, 3, 4))
    last = [key for key in tensors if re.fullmatch(r"layer1\.0\.conv\d\.weight", key)]
    name = _RESNETS.get((stages, len(tensors[max(last)])))
    return _tried(name, {}, tensors, 224) if name else None


def _transformers(tensors: Mapping[str, Tensor], writer: str) -> _Known | None:
    """A ViT or DINOv2 of transformers, by the names in its files or in memory."""
    patches = tensors["embeddings.patch_embeddings.projection.weight"]
    table = tensors.get("embeddings.position_embeddings")
    depth = _count(tensors, r"(?:encoder\.)?layers?\.(\d+)\.")
    hidden = [key for key in tensors if re.search(r"0\.(mlp\.fc1|intermediate\.dense)\.w", key)]
    if not _plausible(patches, table) or not depth or not hidden:
        return None
    assert table is not None
    width, _, patch, _ = patches.shape
    size = math.isqrt(table.shape[1] - 1) * patch
    scaled = any("layer_scale" in key for key in tensors)
    arguments: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": max(1, width // _PER_HEAD),
        "image_size": size,
        "patch_size": patch,
    }
    if scaled:
        arguments["mlp_ratio"] = len(tensors[hidden[0]]) // width
    else:
        arguments["intermediate_size"] = len(tensors[hidden[0]])
    own = {key for key in tensors if re.match(r"embeddings|encoder|layers?\.|layernorm", key)}
    assumed = _heads(arguments["num_attention_heads"])
    name = "Dinov2" if scaled else "ViT"
    return _Known("transformers", name, arguments, size, assumed, own)


_ANCHORS: dict[str, Callable[[Mapping[str, Tensor], str], _Known | None]] = {
    "patch_embed.proj.weight": _vit,
    "layer1.0.conv1.weight": _resnet,
    "embeddings.patch_embeddings.projection.weight": _transformers,
}
"""By a key that each of its kind has."""


def _tried(
    name: str, arguments: dict[str, Any], tensors: Mapping[str, Tensor], size: int
) -> _Known | None:
    """timm's network of that name, if it has these very tensors but for a classifier."""
    try:
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=0, **arguments)
    except Exception:  # of whatever the arguments lead to
        return None
    if not files.compare(network, tensors, (*parts.HEADS, *_UNUSED)).fits:
        return None
    return _Known("timm", name, arguments, size, "", set(network.state_dict()))


def _plausible(patches: Tensor, table: Tensor | None) -> bool:
    """Whether these can be the patches' projection and the positions of a vision transformer."""
    if table is None or patches.ndim != 4 or table.ndim != 3:
        return False
    return min(patches.shape) > 0 and table.shape[1] > 1


def _heads(number: int) -> str:
    return f"the number of attention heads, taken as {number}: correct it if yours differs"


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers are where the pattern has a group, from 0 without a hole."""
    found = {int(match[1]) for key in tensors if (match := re.match(pattern, key))}
    return len(found) if found == set(range(len(found))) else 0


# ---- the lines that run it ----------------------------------------------------------------------

_PLUGIN = """\
import timm

import model_zoo


@model_zoo.register("mine")
class Mine(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size={size})  # ImageNet's mean and std: are they yours?

    def build(self, weights):
        network = timm.create_model({arguments})
        return model_zoo.fill(network, weights, name="mine"{unused})

    def _forward(self, x):
        return self.network(x)
"""
_CONFIG = """\
from transformers import {architecture}Config, ViTImageProcessor

{architecture}Config({arguments}).save_pretrained("{folder}")
# ImageNet's mean and std: are they yours?
ViTImageProcessor(
    size={{"height": {size}, "width": {size}}},
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
).save_pretrained("{folder}")
"""
PLUGIN, CONFIG = Path("my_model.py"), Path("my_config.py")


class HowToRun(NamedTuple):
    """How a network is run: a Python file to write, and commands."""

    file: Path | None
    code: str
    commands: tuple[str, ...]


def recipe(contents: Contents, file: Path | None = None) -> HowToRun:
    """How the network that is usually evaluated is run.

    Args:
        contents: with a network.
        file: the Python file to write; None for a usual name.
    """
    network, path = contents.usual[0], contents.path
    arguments = ", ".join(f"{key}={value!r}" for key, value in network.arguments.items())
    known = {"architecture": network.architecture, "size": network.size, "folder": path.parent}
    if network.library == "timm":
        own = f'"{network.architecture}", num_classes=0'
        if arguments:
            inside = " " * 12
            own = textwrap.fill(f"{own}, {arguments}", 96, initial_indent=inside,
                                subsequent_indent=inside)  # fmt: skip
            own = f"\n{own}\n        "
        unused = f", leftovers={network.unused!r}" if network.unused else ""
        code = _PLUGIN.format(**known, arguments=own, unused=unused)
        file = file or PLUGIN
        run = f"ubench run --plugin {file} --model mine --weights mine={contents.weights}"
        return HowToRun(file, code, (f"{run} --task all --data DATA --out runs/mine",))
    run = f"ubench run --model hf/mine --weights hf/mine={contents.weights}"
    run += " --task all --data DATA --out runs/mine"
    if path.with_name("config.json").is_file():
        return HowToRun(None, "", (run,))
    code = _CONFIG.format(**known, arguments=arguments)
    return HowToRun(file or CONFIG, code, (f"python {file or CONFIG}", run))
