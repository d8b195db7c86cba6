"""The projection of `lite0-projected` (models.py), fitted on an index as the students' are.

python results/nano/project_teacher.py INDEX FILE
"""

from __future__ import annotations

import sys

import torch
from models import SEVERAL, SaltTargets, several
from safetensors.torch import save_file

from usjepa import projection
from usjepa.config import ProjectionSettings
from usjepa.frames.store import open_index

BATCH = 32


def main(index: str, file: str) -> None:
    """Write the layer's weight and bias."""
    frames, settings, encoder = open_index(index), ProjectionSettings(), SaltTargets(name="lite0")
    rows = []
    for first in range(0, len(frames), BATCH):
        numbers = range(first, min(first + BATCH, len(frames)))
        x = torch.stack([encoder.prepare(projection.image(frames, number)) for number in numbers])
        with torch.no_grad():
            rows.append(several(encoder, x).double())
    weight, bias = projection.directions(torch.cat(rows), settings, 0)
    save_file({"weight": weight.float().contiguous(), "bias": bias.float()}, file)
    print(f"{file}: {len(frames)} frames, blocks {SEVERAL}")


if __name__ == "__main__":
    main(*sys.argv[1:])
