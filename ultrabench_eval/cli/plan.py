"""`ubench plan`: what a run would do, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import Request

if TYPE_CHECKING:
    from ultrabench_eval.devices import Fleet
    from ultrabench_eval.plan import Forecast


@options.asks
def plan(
    request: Request,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Encode a few images to estimate the time.")
    ] = True,
    devices: Annotated[
        str | None,
        typer.Option(help="Estimate time and memory on other devices as well, e.g. 8xH100."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show what `ubench run` would do with the same options: results, images, time, disk, licences.

    Nothing is measured. Exit code 0: the run can start; 1: something is missing (the command that
    fixes it is printed); 2: the options are wrong.
    """
    from ultrabench_eval.plan import forecast

    if devices and not timing:
        raise UserError("--devices needs the work of the networks; leave out --no-timing")
    from ultrabench_eval.progress import Progress

    with Progress() as progress:
        found = forecast(request, timing=timing, on=devices, report=progress)
    if as_json:
        show.json(found.as_dict())
    else:
        _show(found)
    stuck = not found.shares or any(share.problem for share in found.shares)
    raise typer.Exit(options.SOME_FAILED if stuck else 0)


def _show(found: Forecast) -> None:
    again = found.total("failed")
    print(
        f"results: {found.total('cells')} in all, {found.total('there')} there, "
        f"{found.total('to_do')} to do"
        + (f" ({again} of them failed before and are tried again)" if again else "")
    )
    header = ("model", "task", "results", "to do", "images to encode", "encoding", "probes")
    rows = []
    for share in found.shares:
        stuck = "cannot run" if share.problem else ""
        rows.append(
            (
                *(share.model, share.task, str(share.cells), str(share.to_do)),
                stuck or str(share.images),
                "" if stuck or not share.images else _time(share.encode_seconds),
                "" if stuck else _time(share.probe_seconds),
            )
        )
    show.table(header, rows)
    tuned = [share for share in found.shares if share.passes]
    if tuned and found.seconds is not None:
        seconds = sum(share.probe_seconds for share in tuned)
        print(
            f"fine-tuning: roughly {_time(seconds)} of it, without early stopping (an image in "
            "training counts as three that are encoded)"
        )
    if found.seconds is not None:
        print(
            f"time: about {_time(found.seconds)}, estimated at this machine's current load "
            "(encoders were timed on a few images, probes are at stated rates)"
        )
    else:
        print("time: unknown, because not all encoders were timed")
    if found.fleet:
        _show_fleet(found.fleet)
    print(
        f"disk: {_size(found.total('feature_bytes'))} of features in {found.cache}, "
        f"{_size(found.total('result_bytes'))} in {found.out}"
    )
    for note in found.notes:
        print(f"note: {note}")
    if found.licences:
        print("\nLicences that matter, in the words of the cards:")
        show.table(("of", "name", "kind", "words"), found.licences)
    if found.missing:
        print("\nMissing:")
    for one in found.missing:
        print(f"- {one.what} of {one.name}: {one.reason}")
        if one.command:
            print(f"  {one.command}")
    known = {one.reason for one in found.missing}
    for share in found.shares:
        if share.problem and share.problem not in known:
            print(f"- {share.model} on {share.task} cannot run: {share.problem}")


def _show_fleet(fleet: Fleet) -> None:
    from ultrabench_eval.devices import ASSUMED

    header = ("model", "GFLOP an input", "encoding", "reading meanwhile", "memory of a batch")
    rows = [
        (
            *(one.model, f"{one.gigaflops:.2f}", _time(one.encoding), _time(one.reading)),
            _size(round(1e9 * one.memory)) + ("" if one.fits else ", which does not fit"),
        )
        for one in fleet.models
    ]
    print(f"\nOn one {fleet.name}, estimated:")
    show.table(header, rows)
    print(f"on {fleet.number} x {fleet.name}: about {_time(fleet.seconds)}")
    print(f"assumed: {ASSUMED}\n")


def _time(seconds: float | None) -> str:
    """A duration in the unit that suits it."""
    if seconds is None:
        return "not timed"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
