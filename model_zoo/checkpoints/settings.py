"""Settings that lie beside weights in JSON: read, and checked before they are used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from model_zoo.transforms import InputRule, Interpolation
from ultrabench_eval.core.errors import UserError


def read(path: Path) -> dict[str, Any]:
    """The settings in a JSON file.

    Raises:
        UserError: it cannot be read, or holds something else than names with values.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError(f"it holds a {type(settings).__name__}")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as settings ({type(error).__name__}: {str(error)[:100]}); "
            "get it again from where the weights are from"
        ) from error
    return settings


def channels(value: Any, what: str, path: Path | str) -> tuple[float, float, float]:
    """Three numbers for the channels of an image; a single number stands for all of them.

    Args:
        value: as the file has it.
        what: name of the setting, such as "image_mean".
        path: of the file, for the error.

    Raises:
        UserError: something else, or not finite.
    """
    given = [value] * 3 if isinstance(value, (int, float)) else value
    if (
        not isinstance(given, (list, tuple))
        or len(given) != 3
        or not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in given)
        or not all(math.isfinite(x) for x in given)
    ):
        raise UserError(
            f"{path} states {what} {str(value)[:60]}, where three numbers are needed, one for each "
            "channel; correct it there"
        )
    red, green, blue = (float(x) for x in given)
    return red, green, blue


def spreads(value: Any, what: str, path: Path | str) -> tuple[float, float, float]:
    """As `channels`, for what is divided by.

    Raises:
        UserError: not three positive numbers.
    """
    result = channels(value, what, path)
    if min(result) <= 0:
        raise UserError(f"{path} states {what} {result}, which must be positive; correct it there")
    return result


def library_rule(model: str, size: int, given: Mapping[str, Any]) -> InputRule:
    """The input rule that timm or open_clip states: mean, std and interpolation in `given`.

    Raises:
        UserError: the model wants an interpolation that `transforms` has not.
    """
    known = get_args(Interpolation)
    if given["interpolation"] not in known:
        raise UserError(
            f"model '{model}' wants {given['interpolation']} interpolation, which is not one of "
            f"{', '.join(known)}; choose another model"
        )
    return InputRule(size, tuple(given["mean"]), tuple(given["std"]), given["interpolation"])
