"""`ubench models NAME --check`: what can be told of a wrapper without labels."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ultrabench_eval.cli import options, show

if TYPE_CHECKING:
    from model_zoo.forensics import Examination

_SURE = {"certain": "certain", "likely": "likely", "unsure": "cannot be told without labels"}


def check(name: str, weights: str | None, as_json: bool) -> None:
    """Examine a model and print it; exit code 1 if there is an alarm.

    Raises:
        UserError: it cannot be loaded.
    """
    import model_zoo
    from model_zoo import forensics
    from ultrabench_eval import loading

    named = {name: weights} if weights else {}
    encoder = model_zoo.load(name, loading.weights_of(name, named), dtype="float32")
    found = forensics.examine(encoder)
    if as_json:
        clues = [{**asdict(clue), "alarm": clue.alarm} for clue in found.clues]
        show.json({"name": found.name, "clues": clues, "looked_at": list(found.looked_at)})
    else:
        _print(found)
    raise typer.Exit(options.SOME_FAILED if found.alarms else 0)


def _print(found: Examination) -> None:
    for clue in found.clues:
        print(f"{'ALARM' if clue.alarm else 'note'}: {clue.family} ({_SURE[clue.sure]})")
        print(f"  saw: {clue.saw}")
        print(f"  do:  {clue.change}")
    if not found.alarms:
        print(f"{found.name}: no alarm")
    for sentence in found.looked_at:
        print(f"- {sentence}")
