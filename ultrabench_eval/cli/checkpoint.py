"""`ubench models FILE`: what is in a checkpoint, and the lines that run it."""

from __future__ import annotations

import json
from pathlib import Path


def show(path: Path, as_json: bool) -> None:
    """Print what a checkpoint holds: a Python file, whose comments say the rest.

    Raises:
        UserError: it cannot be read.
    """
    from model_zoo.checkpoints import contents

    found = contents.look(path)
    how = contents.recipe(found) if found.networks else None
    if as_json:
        print(json.dumps({
            "file": str(path),
            "writer": found.writer,
            "networks": [vars(one) for one in found.networks],
            "commands": list(how.commands) if how else [],
            "code": how.code if how else "",
        }, indent=1))  # fmt: skip
        return
    lines = [f"{path}: a checkpoint" + (f" written by {found.writer}" if found.writer else "")]
    lines += [f"at the top: {', '.join(found.tops[:8])}" + ", ..." * (len(found.tops) > 8)]
    for one in found.networks:
        left = f"; left out: {', '.join(one.dropped)}" if one.dropped else ""
        lines.append(f"{one.entry or 'top level'}: {one}{left}")
    if how is None:
        lines.append("no network in it was recognised: write build() for yours, as")
        lines.append(
            "docs/add_your_model.md shows; model_zoo.fill names each key that does not fit"
        )
    else:
        usual, why = found.usual
        if len(found.networks) > 1:
            lines.append(f"taken here: {usual.entry}{why}")
        lines.append(f"not in the file: {usual.assumed or 'nothing that was assumed'}")
        if how.file:
            lines.append(f"save this as {how.file}, then:")
        lines += how.commands
    print("\n".join(f"# {line}" for line in lines))
    if how and how.code:
        print(f"\n{how.code}", end="")
