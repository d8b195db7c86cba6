"""Part of an index of frames, whole patients and videos of each set, for the curve of README.md.

python results/nano/thin.py INDEX OUT SHARE
"""

from __future__ import annotations

import sys
from pathlib import Path

from ultrabench_eval.core import hashing
from usjepa.frames.sampling import hold_out
from usjepa.frames.store import open_index
from usjepa.frames.writer import Writer


def main(index: str, out: str, share: str) -> None:
    """Write a share of each set into a new index."""
    frames = open_index(index)
    kept, _ = hold_out(frames, 1 - float(share), 0)
    for name, numbers in zip(frames.sets, kept, strict=True):
        groups, first = frames.groups(name), frames.first(name)
        told = {"share": float(share), "of": frames.fingerprint}
        with Writer(Path(out), name, frames.settings, told, frames.guard) as writer:
            for number in numbers.tolist():
                frame = frames.read(number)
                called = frames.name(number).partition("/")[2]
                content = hashing.digest_bytes(frame.pixels.tobytes())
                writer.add(called, str(groups[number - first]), content, *frame)
        print(name, len(numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
