"""speed.csv: images a second of a run's encoders, as `ubench speed` measured them.

Cells keep no such figure, so that the tables of two runs of the same thing are equal byte for byte.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from ultrabench_eval.core.errors import UserError

FILE = "speed.csv"


class Speed(BaseModel):
    """How fast one encoder was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """Its name in the run."""
    fingerprint: str
    """Of the model; a speed is never shown beside the scores of another one."""
    numerics: str
    """How features are rounded: "float32", "bfloat16 compiled"."""
    device: str
    threads: int
    """Of torch, where the device is the processor."""
    batch: int
    """Images that are encoded at a time."""
    images_per_second: float
    """Median of the rounds, of prepared images: without decoding and resizing."""
    slowest: float
    """Round, in images a second."""
    fastest: float
    torch: str
    """Version."""

    @property
    def text(self) -> str:
        """The rate with as many digits as mean something."""
        rate = self.images_per_second
        return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"

    @property
    def where(self) -> str:
        """Device, threads and version of torch in words."""
        threads = f", {self.threads} threads" if self.device == "cpu" else ""
        return f"{self.device}{threads}, torch {self.torch}"


def table(speeds: Iterable[Speed]) -> bytes:
    """The file's content."""
    rows = pd.DataFrame([one.model_dump() for one in speeds], columns=list(Speed.model_fields))
    text: str = rows.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    return text.encode()


def read(run: Path) -> list[Speed]:
    """The speeds of a results folder; none if they were not measured.

    Raises:
        UserError: the file is damaged.
    """
    path = run / FILE
    try:
        rows = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False)
        if list(rows) != list(Speed.model_fields):
            raise ValueError("other columns")
        return [Speed.model_validate(row) for row in rows.to_dict("records")]
    except FileNotFoundError:
        return []
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"{path} is damaged; `ubench speed {run}` measures the speeds again"
        ) from error
