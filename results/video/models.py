"""The networks of the study, each a model of its own: `--plugin results/video/models.py`.

`NAME-0` ... `NAME-4` are one configuration trained from five seeds; the weights are named on the
command line (`--weights vjepa-study-0=EXPORT`). `random-clip` is the same network untrained.
"""

from __future__ import annotations

import model_zoo
from model_zoo.students import ClipStudent

NAMES = (
    *(
        f"{name}-{seed}"
        for name in ("vjepa-study", "vjepa-loc-study", "videomae-study")
        for seed in range(5)
    ),
    *("vjepa-loc-study-half", "vjepa-loc-study-three-quarters"),
    "random-clip",
)

for name in NAMES:
    model_zoo.register(name)(type("StudyNetwork", (ClipStudent,), {"__module__": __name__}))
