"""What is watched while training: the log, signs of collapse, and how busy the processor is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

Entry = Mapping[str, Any]
"""One line of the log; `kind` is "start", "train", "validation" or "probe"."""

_SIDE = 2048  # of the matrices whose product tells the processor's ceiling
_ROUNDS = 3


class Log:
    """`log.jsonl`: one JSON object a line, and TensorBoard where it is installed.

    Args:
        path: of the JSON lines.
        step: lines of later steps are what a killed run did after its checkpoint, and are taken
            out, since they will be written again.

    Raises:
        UserError: the file holds something else.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            files.write_text(path, "".join(_kept(path, step)))
        self._board = _tensorboard(path.parent / "tensorboard", step)

    def write(self, entry: Entry) -> None:
        """Add a line, at once on disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
        if self._board is not None:
            for name, value in entry.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{entry['kind']}/{name}", value, entry["step"])
            self._board.flush()


def _kept(path: Path, step: int) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # cut off when the run was killed
                break
            raise UserError(f"{path}, line {number}, is no JSON; move the file away") from error
        if entry["step"] <= step:
            kept.append(line)
    return kept


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
    """Operations a second in a large matrix product, the most that a step could reach."""
    a, b = (torch.ones(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for a GPU
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * _SIDE**3 / fastest
