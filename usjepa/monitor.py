"""What is watched while training: the log, signs of collapse, and how busy the processor is."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ultrabench_eval.core import files

Entry = Mapping[str, Any]
"""One line of the log; `kind` is "start", "train", "validation", "probe" or "note"."""

_SIDE = 2048  # of the matrices whose product tells the processor's ceiling
_ROUNDS = 3
_LONGEST = 1.0  # seconds of one product


class Log:
    """`log.jsonl`: one JSON object per line, and TensorBoard where it is installed.

    Lines that cannot be read are left out; the file is then kept beside as `log.damaged.jsonl`.

    Args:
        path: of the JSON lines.
        step: lines of later steps are what a killed run did after its checkpoint, and are taken
            out, since they will be written again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.damaged: Path | None = None
        """The file as it was, if some of it could not be read."""
        if path.exists():
            lines, whole = _kept(path, step)
            if not whole:
                self.damaged = path.with_suffix(".damaged.jsonl")
                os.replace(path, self.damaged)
            files.write_text(path, "".join(lines))
        self._board = _tensorboard(path.parent / "tensorboard", step)

    def write(self, entry: Entry) -> None:
        """Add a line, at once on disk; numbers that are not finite become null."""
        known = {name: value if _finite(value) else None for name, value in entry.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known, allow_nan=False) + "\n")
        if self._board is not None:
            for name, value in entry.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{entry['kind']}/{name}", value, entry["step"])
            self._board.flush()


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _kept(path: Path, step: int) -> tuple[list[str], bool]:
    """The lines up to a step, and whether all but a last one cut off by a kill can be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept, whole = [], True
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if int(entry["step"]) <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            whole = whole and number == len(lines)
    return kept, whole


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]


def effective_rank(features: Tensor) -> float:
    """The number of directions that features fill, from 1 (collapsed) to min(N - 1, D).

    The exponential of the entropy of the singular values, scaled to sum 1 (Roy and Vetterli, "The
    effective rank", EUSIPCO 2007), of features with their mean taken out.

    Args:
        features: [N, D].
    """
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values / total
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def spread(features: Tensor) -> float:
    """Standard deviation of features [N, D] over images, averaged over channels; 0 if collapsed."""
    return float(features.std(0).mean()) if len(features) > 1 else 0.0


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions in `work`, there and back."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second in a large matrix product, the most that a step could reach.

    Matrices grow while the next product will take less than `_LONGEST`, so that this ends soon on
    a processor that only imitates the dtype.
    """
    side = 256
    while True:
        seconds = min(_product(side, device, dtype) for _ in range(_ROUNDS))
        if side == _SIDE or 8 * seconds > _LONGEST:
            return float(2 * side**3 / seconds)
        side *= 2


def _product(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds that the product of two square matrices takes."""
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    start = time.perf_counter()
    product = a @ b
    product[0, 0].item()  # waits for a GPU
    return time.perf_counter() - start
