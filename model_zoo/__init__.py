"""The model zoo: `load(name)` gives a frozen encoder behind one sealed `encode()`.

Imports torch only when a model is loaded, so that names can be listed at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_zoo import executed
from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from model_zoo.cards import Card
    from model_zoo.checkpoints.parts import fill
    from model_zoo.clip_rule import ClipRule
    from model_zoo.encoder import Encoder
    from model_zoo.transforms import InputRule

__all__ = [
    "Card",
    "ClipRule",
    "Encoder",
    "InputRule",
    "card",
    "describe",
    "fill",
    "load",
    "names",
    "problem",
    "register",
    "registry",
    "split",
]

executed.record()
registry: Registry[Any] = Registry("model", group="ultrabench_eval.models", listing="ubench models")

# A model is a subclass of Encoder. A name that ends in "/" is a family: timm/<any timm model>.
for _name, _target in {
    "biomedclip": "model_zoo.biomedclip:BiomedCLIP",
    "border": "model_zoo.controls:Border",
    "constant": "model_zoo.controls:Constant",
    "dinov3": "model_zoo.dinov3:DINOv3",
    "echocare": "model_zoo.echocare:EchoCare",
    "echoclip": "model_zoo.echoclip:EchoCLIP",
    "echofm": "model_zoo.echofm:EchoFM",
    "echojepa": "model_zoo.vjepa:EchoJEPA",
    "echoprime": "model_zoo.echoprime:EchoPrime",
    "efficientnet-lite0": "model_zoo.efficientnet_lite:Lite0",
    "efficientnet-lite1": "model_zoo.efficientnet_lite:Lite1",
    "efficientnet-lite2": "model_zoo.efficientnet_lite:Lite2",
    "fan-mask": "model_zoo.controls:FanMask",
    "frame-differences": "model_zoo.controls:FrameDifferences",
    "fetalclip": "model_zoo.fetalclip:FetalCLIP",
    "hf/": "model_zoo.hf:HFModel",
    "ijepa": "model_zoo.ijepa:IJEPA",
    "ijepa-vitb16": "model_zoo.ijepa:IJEPAViTB16",
    "image-stats": "model_zoo.controls:ImageStats",
    "mean-mask": "model_zoo.controls:MeanMask",
    "medsam2": "model_zoo.card_only:MedSAM2",
    "mobile-fetalclip": "model_zoo.mobile_fetalclip:MobileFetalCLIP",
    "open_clip/": "model_zoo.open_clip:OpenCLIPModel",
    "openus-s": "model_zoo.card_only:OpenUS",
    "panecho": "model_zoo.panecho:PanEcho",
    "panecho-clip": "model_zoo.panecho:PanEchoClip",
    "pixel-grid": "model_zoo.controls:PixelGrid",
    "pixels": "model_zoo.controls:Pixels",
    "position-pixels": "model_zoo.controls:PositionPixels",
    "random-vit-tiny": "model_zoo.controls:RandomViTTiny",
    "sam": "model_zoo.sam:SAM",
    "samus": "model_zoo.samus:SAMUS",
    "timm/": "model_zoo.timm_models:TimmModel",
    "tinyusfm": "model_zoo.tinyusfm:TinyUSFM",
    "ultrafedfm": "model_zoo.ultrafedfm:UltraFedFM",
    "ultrasam": "model_zoo.ultrasam:UltraSam",
    "urfm": "model_zoo.urfm:URFM",
    "us-jepa": "model_zoo.us_jepa:USJEPA",
    "usf-mae": "model_zoo.usf_mae:USFMAE",
    "usfm": "model_zoo.usfm:USFM",
    "usjepa": "model_zoo.students:Student",
    "usjepa-clip": "model_zoo.students:ClipStudent",
    "usrc-jepa": "model_zoo.us_jepa:USrcJEPA",
    "videomae": "model_zoo.videomae:VideoMAE",
    "videomae-vitl": "model_zoo.videomae:VideoMAELarge",
    "vjepa-vitb16": "model_zoo.vjepa:VJEPAViTB16",
    "vjepa-vitl16": "model_zoo.vjepa:VJEPA",
    "vjepa2-vitl": "model_zoo.vjepa:VJEPA2",
    "vjepa-loc-nano": "model_zoo.students:VJEPALocNano",
    "vjepa-nano": "model_zoo.students:VJEPANano",
}.items():
    registry.register(_name, _target)

# What this project trained: a name is there if its weights came with the package.
for _name, _target in {
    "ijepa-nano": "model_zoo.students:IJEPANano",
    "mae-nano": "model_zoo.students:MAENano",
    "us-jepa-nano": "model_zoo.students:USJEPANano",
    "usrc-jepa-nano": "model_zoo.students:USrcJEPANano",
}.items():
    if (Path(__file__).parent / "data" / f"{_name}.safetensors").is_file():
        registry.register(_name, _target)


STAND_INS = {"us-jepa": "us-jepa-nano", "usrc-jepa": "usrc-jepa-nano"}
"""By models whose weights are not public: what this project trained by the same method."""

BUILT_IN = registry.registered()
"""Names of this package's models; a family ends in "/"."""


def names() -> list[str]:
    """Names of all models; a family is listed as "timm/<name>"."""
    return registry.names()


def register(name: str, target: Any = None) -> Any:
    """Register an `Encoder` subclass under `name`; a class decorator without `target`."""
    return registry.register(name, target)


def card(name: str) -> Card:
    """The card of a model, without loading its weights."""
    result: Card = registry.get(split(name)[0]).card
    return result


def describe(name: str) -> dict[str, Any]:
    """Card, input rule and poolings of a model as plain data, without loading its weights."""
    from model_zoo import cards, described

    if name in described.written():
        return described.written()[name]
    base, _ = split(name)
    return cards.describe(base, registry.get(base))


def split(name: str) -> tuple[str, str | None]:
    """A name and the pooling behind it: "usfm/cls" is the model "usfm" pooled by "cls".

    A name without pooling, or unknown, comes back as it is.
    """
    base, _, pooling = name.rpartition("/")
    if base and base in registry and pooling in getattr(registry.get(base), "poolings", ()):
        return base, pooling
    return name, None


def problem(name: str) -> str | None:
    """What is wrong with a model's name, in a sentence; None if nothing is."""
    if name in registry:
        return None
    base, pooling = split(name)
    if pooling is not None:
        return None
    base, _, pooling = name.rpartition("/")
    if base and base in registry:
        return f"model '{base}' has no pooling '{pooling}'; it has " + ", ".join(
            getattr(registry.get(base), "poolings", ())
        )
    return registry.unknown(name)


def load(
    name: str,
    weights: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    pooling: str | None = None,
    accept_license: bool = False,
    compile: bool = False,
) -> Encoder:
    """Load a frozen encoder.

    Args:
        name: a name of `names()`, or one of a family (`timm/<any timm model>`); with
            `/<pooling>` behind it, that pooling.
        weights: checkpoint file or folder. None: what the model ships with, else
            `$UBENCH_WEIGHTS/<name>*`, else the hub file of the card if `accept_license`.
            "random": an untrained network, asked for explicitly.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32; the harness tries bfloat16), "float32", "bfloat16", "float16".
        pooling: a name of the model's `poolings`; None for its default.
        accept_license: consent to the licence of weights that are fetched from the hub.
        compile: run the network through `torch.compile`, which changes the last bits.

    Raises:
        UserError: unknown name, no weights, a checkpoint that does not fit, unknown pooling.
    """
    from model_zoo.loading import load_encoder

    return load_encoder(name, weights, device, dtype, pooling, accept_license, compile)


def __getattr__(name: str) -> Any:
    if name == "Card":
        from model_zoo.cards import Card

        return Card
    if name == "ClipRule":
        from model_zoo.clip_rule import ClipRule

        return ClipRule
    if name == "Encoder":  # lazily: it imports torch
        from model_zoo.encoder import Encoder

        return Encoder
    if name == "fill":
        from model_zoo.checkpoints.parts import fill

        return fill
    if name == "InputRule":
        from model_zoo.transforms import InputRule

        return InputRule
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
