"""A results folder as one small file, from which `ubench report` makes its pages again.

    python results/pack.py runs/real results/real/cells.tar.xz
    A=again/real; mkdir -p $A && tar -xf results/real/cells.tar.xz -C $A && ubench report $A

It holds all cells and test sets, speed.csv and about.yaml. Of predictions it keeps what statistics
and pages need (class codes in place of probabilities), a tenth of the whole; scores stay the same.
Equal cells give equal bytes.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from ultrabench_eval import task_types
from ultrabench_eval.cells import Cells, Failure
from ultrabench_eval.core.errors import UserError


def pack(run: Path, archive: Path) -> None:
    """Write the archive.

    Args:
        run: a results folder.
        archive: a .tar.xz file.

    Raises:
        UserError: a result is damaged or is not verified.
    """
    source = Cells(run)
    with tempfile.TemporaryDirectory() as folder:
        target = Cells(Path(folder))
        for entry in source.gather():
            if isinstance(entry, Failure):
                if entry.damaged:
                    raise UserError(entry.reason)
                target.fail(entry)
                continue
            if entry.doubt:
                raise UserError(f"{entry.coordinates.path} in {run} is not verified: {entry.doubt}")
            kind = task_types.get(entry.type)
            target.put(entry, kind.compact(source.predictions(entry)))
            target.adopt_test(str(entry.identity["task"]), source)
        files = [(path, path.relative_to(folder)) for path in Path(folder).rglob("*")]
        stated = [run / name for name in ("speed.csv", "about.yaml")]
        files += [(path, Path(path.name)) for path in stated if path.is_file()]
        with tarfile.open(archive, "w:xz", preset=9) as tar:
            for path, name in sorted(files, key=lambda one: one[1]):
                if path.is_file():
                    tar.add(path, name.as_posix(), filter=_without_origin)


def _without_origin(file: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs between two machines."""
    file.mtime = file.uid = file.gid = 0
    file.uname = file.gname = ""
    file.mode = 0o644
    return file


if __name__ == "__main__":
    try:
        pack(Path(sys.argv[1]), Path(sys.argv[2]))
    except (UserError, IndexError) as error:
        sys.exit(f"error: {error}" if isinstance(error, UserError) else str(__doc__))
