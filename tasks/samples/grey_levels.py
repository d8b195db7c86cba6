"""Grey levels of values that have more than 8 bits: by a window that the file or the user names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:  # here, so that a completion of the command line need not wait for it
    import numpy as np

FILE, RANGE = "file", "range"
HINT = (
    "say --window CENTRE/WIDTH, or --window range for each image's own range from smallest to "
    "largest value"
)


@dataclass(frozen=True)
class GreyLevels:
    """How values become grey levels from 0 to 255.

    Args:
        window: "file": by the window that the file itself states; "range": from the smallest to
            the largest value of each image; or (centre, width), in the unit of the file's values.
    """

    window: str | tuple[float, float] = FILE

    @classmethod
    def parse(cls, text: str | None) -> GreyLevels:
        """What `--window` means: "range", "CENTRE/WIDTH", or None for the file's own.

        Raises:
            UserError: neither of them.
        """
        if text in (None, FILE, RANGE):
            return cls(text or FILE)
        try:
            centre, width = map(float, str(text).split("/"))
            if not (abs(centre) < math.inf and 0 < width < math.inf):
                raise ValueError
        except ValueError:
            raise UserError(
                f"--window {text} is not valid; write CENTRE/WIDTH with a width above 0, e.g. "
                "--window 2048/4096, or range"
            ) from None
        return cls((centre, width))

    @property
    def own(self) -> bool:
        """Whether the file's own window counts."""
        return self.window == FILE

    @property
    def of_range(self) -> bool:
        """Whether each image's or clip's own range counts."""
        return self.window == RANGE

    @classmethod
    def between(cls, low: float, high: float) -> GreyLevels:
        """Black at `low`, white at `high`."""
        return cls(((low + high) / 2, max(high - low, 1e-9)))

    def __str__(self) -> str:
        return self.window if isinstance(self.window, str) else "{}/{}".format(*self.window)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Grey levels uint8 of any numbers of the same shape, by a window that the user named.

        Black up to centre - width / 2, white from centre + width / 2, linear between.
        """
        values = values.astype("float64")
        if isinstance(self.window, str):
            return stretched(values)
        centre, width = self.window
        return rounded((values - centre) / width + 0.5)


def stretched(values: np.ndarray) -> np.ndarray:
    """Levels uint8 from the smallest value, which becomes 0, to the largest, which becomes 255."""
    import numpy as np

    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    levels: np.ndarray = np.rint((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return levels


def rounded(shares: np.ndarray) -> np.ndarray:
    """Levels uint8 of numbers from 0 (black) to 1 (white); what is beyond is cut off."""
    import numpy as np

    levels: np.ndarray = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return levels
