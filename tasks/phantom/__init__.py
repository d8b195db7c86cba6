"""The phantom suite: simulated B-mode ultrasound in the eight original release layouts.

`write(out)` makes folders that the readers of `tasks` take for the releases themselves, so that
demo and tests walk the path of real data. The pictures are simulated and say so by the marker
`SYNTHETIC.json`: numbers on them tell about the software, not about medicine.
"""

from __future__ import annotations

from tasks.phantom.plan import SIZES
from tasks.phantom.suite import TASKS, VERSION, write

__all__ = ["SIZES", "TASKS", "VERSION", "write"]
