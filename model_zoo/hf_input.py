"""How transformers prepares an image, by the settings beside its weights.

Each setting of the file is used, or refused by its name; afterwards the library's own processor and
ours must give the same input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from torch import Tensor
from transformers.utils.hub import cached_file

from model_zoo.checkpoints import settings
from model_zoo.transforms import InputRule, Interpolation
from ultrabench_eval.core.errors import UserError

_AutoImageProcessor: Any = transformers.AutoImageProcessor  # which has no types
FILE = "preprocessor_config.json"
NEWER = "processor_config.json"  # which holds the settings under "image_processor"
_FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_GEOMETRY = ("size", "crop_size", "do_center_crop", "do_resize")
_VALUES = (
    *("resample", "do_rescale", "rescale_factor", "rescale_offset"),
    *("do_normalize", "image_mean", "image_std", "do_flip_channel_order"),
)
# Without effect on one colour image, but for the crop, which is left out on purpose.
_WITHOUT_EFFECT = (
    *("image_processor_type", "feature_extractor_type", "processor_class", "_processor_class"),
    *("_valid_processor_keys", "data_format", "input_data_format", "return_tensors", "device"),
    *("disable_grouping", "crop_pct", "do_convert_rgb", "do_reduce_labels", "reduce_labels"),
    *("model_input_names", "default_to_square"),
)


def file_of(place: str) -> Path | None:
    """The file with the settings, of a folder or hub id; None if there is none."""
    for name in (FILE, NEWER):
        found = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
        if found is not None and (name == FILE or "image_processor" in settings.read(Path(found))):
            return Path(found)
    return None


def read(place: str, file: Path, image_size: Any) -> tuple[InputRule, bool]:
    """The input rule, in the order of red, green, blue, and whether the network wants the reverse.

    Args:
        place: folder or hub id, for the library's defaults.
        file: with the settings, see `file_of`.
        image_size: that of the network's own configuration.

    Raises:
        UserError: a setting that cannot be followed.
    """
    given = {key: value for key, value in _settings(file).items() if value is not None}
    known = (*_GEOMETRY, *_VALUES, *_WITHOUT_EFFECT)
    strange = [key for key, value in given.items() if value and key not in known]
    if strange:
        raise UserError(
            f"{file} states {', '.join(f'{k} {str(given[k])[:40]}' for k in strange[:3])}, which "
            "is not supported here; prepare the images so beforehand and remove it there, or "
            "choose another model"
        )
    told = _defaults(place) | given
    if not told.get("do_resize", True):
        raise UserError(
            f"{file} states do_resize false, but images of all sizes come in; set it to true and "
            "state a size there"
        )
    size = _side(file, told, image_size)
    mean, std = _scaled(file, told)
    if flips := bool(told.get("do_flip_channel_order")):
        mean, std = (mean[2], mean[1], mean[0]), (std[2], std[1], std[0])
    return InputRule(size, mean, std, _filter(file, told.get("resample", 2))), flips


def check(place: str, file: Path, prepare: Callable[[np.ndarray], Tensor], rule: InputRule) -> None:
    """Compare with the library's own processor, should it be able to follow the file.

    Raises:
        UserError: it gives another input for an image that it would neither crop nor resize; or
            for any image, if it crops none.
    """
    size = _settings(file).get("size")
    for processor in _processors(place):
        crops = getattr(processor, "do_center_crop", None)
        squashes = isinstance(size, Mapping) and "height" in size and not crops
        shape = (rule.size + 9, rule.size + 20) if squashes else (rule.size, rule.size)
        left_out = {} if squashes else {"do_resize": False, "do_center_crop": False}
        image = _noise(*shape)
        try:
            wanted = processor(image, return_tensors="pt", **left_out)["pixel_values"][0].float()
        except Exception:  # some cannot follow what `save_pretrained` itself wrote
            continue
        ours = prepare(image)
        allowed = 3 / 255 / min(rule.std)  # some of its processors round otherwise
        if ours.shape != wanted.shape or (ours - wanted).abs().max() > allowed:
            raise UserError(
                f"{file} makes transformers prepare images in a way that is not supported here "
                f"(shape {tuple(wanted.shape)} and values {_range(wanted)}, ours "
                f"{tuple(ours.shape)} and {_range(ours)}; {type(processor).__name__}); choose "
                "another model"
            )
        return


def _noise(height: int, width: int) -> np.ndarray:
    values = np.arange(height * width * 3, dtype=np.uint64) * 2654435761 % 2**32 >> 24
    return values.astype(np.uint8).reshape(height, width, 3)


def _range(x: Tensor) -> str:
    return f"{x.min():.3g} to {x.max():.3g}"


def _settings(file: Path) -> dict[str, Any]:
    given = settings.read(file)
    inner = given.get("image_processor") if file.name == NEWER else given
    return inner if isinstance(inner, dict) else {}


def _processors(place: str) -> Iterator[Any]:
    """Those that the library can make of a place; first the one that resizes with Pillow."""
    for options in ({"backend": "pil"}, {}):
        try:
            processor = _AutoImageProcessor.from_pretrained(
                place, trust_remote_code=False, **options
            )
        except Exception:  # of a type it does not know, or that wants other packages
            continue
        yield processor


def _defaults(place: str) -> dict[str, Any]:
    """What the library takes for settings that the file leaves out."""
    processor = next(_processors(place), None)
    if processor is None:
        return {}
    told = {key: getattr(processor, key, None) for key in _VALUES}
    # Steps that a processor lacks are not taken.
    return {k: v for k, v in told.items() if v is not None or k.startswith("do_")}


def _side(file: Path, told: Mapping[str, Any], image_size: Any) -> int:
    name = "crop_size" if told.get("do_center_crop") and told.get("crop_size") else "size"
    size = told.get(name) or image_size
    if isinstance(size, Mapping):
        sizes = {k: v for k, v in size.items() if v is not None}
        sides: list[Any] = [sizes.get("height"), sizes.get("width")]
        if set(sizes) == {"shortest_edge"}:
            sides = [sizes["shortest_edge"]] * 2
        elif set(sizes) != {"height", "width"}:
            raise UserError(
                f"{file} states {name} {dict(sizes)}, which keeps the aspect of an image; only "
                "height and width, or shortest_edge, are supported: choose another model"
            )
    else:
        sides = list(size) if isinstance(size, (list, tuple)) else [size] * 2
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"{file} states no {name} in pixels ({str(size)[:60]}); complete it")
    if sides[0] != sides[1]:
        raise UserError(
            f"{file} states {name} {sides[0]} x {sides[1]}, and only square inputs are supported; "
            "choose another model"
        )
    side: int = sides[0]
    return side


def _scaled(
    file: Path, told: Mapping[str, Any]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std for values in [0, 1], in the order of the file's channels."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if told.get("do_normalize", True):
        if told.get("image_mean") is None or told.get("image_std") is None:
            raise UserError(f"{file} states no image_mean or image_std; complete it")
        mean = settings.channels(told["image_mean"], "image_mean", file)
        std = settings.spreads(told["image_std"], "image_std", file)
    factor, offset = 255.0, 0.0
    if told.get("do_rescale", True):
        given = told.get("rescale_factor", 1 / 255)
        if not isinstance(given, (int, float)) or not 0 < given < math.inf:
            raise UserError(f"{file} states rescale_factor {str(given)[:40]}; correct it there")
        factor, offset = 255 * given, 1.0 if told.get("rescale_offset") else 0.0
    if math.isclose(factor, 1, rel_tol=1e-6) and not offset:
        return mean, std
    # (factor v - offset - mean) / std, written for v.
    red, green, blue = ((value + offset) / factor for value in mean)
    low, mid, high = (value / factor for value in std)
    return (red, green, blue), (low, mid, high)


def _filter(file: Path, resample: Any) -> Interpolation:
    names = {str(value): value for value in _FILTERS.values()}
    found = names.get(str(resample).lower()) or (
        _FILTERS.get(int(resample)) if isinstance(resample, int) else None
    )
    if found is None:
        raise UserError(
            f"{file} states resample {str(resample)[:40]}, and only "
            f"{', '.join(f'{k} ({v})' for k, v in _FILTERS.items())} are supported; choose another "
            "model"
        )
    return found
