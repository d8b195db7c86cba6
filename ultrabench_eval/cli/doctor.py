"""`ubench doctor`: is this machine ready, and if not, what to type."""

from __future__ import annotations

import typer

from ultrabench_eval.cli import options, show


def doctor(
    data: options.DataRoot = None,
    cache: options.Cache = None,
    plugin: options.Plugins = None,
    as_json: options.Json = False,
) -> None:
    """Check versions, device, weights, data, cache and disk; say how to fix each failed check.

    Takes seconds: no network is loaded, no image read. Missing weights and data are listed but not
    essential, because some models and images need none. Exit code 0: no essential check fails; 1:
    one does.
    """
    from ultrabench_eval import doctor as surgery

    options.load_plugins(plugin)
    checks = surgery.examine(data, cache)
    ready = surgery.ready(checks)
    if as_json:
        data_of = {"ready": ready, "summary": surgery.summary(checks)}
        show.json({**data_of, "checks": [c.as_dict() for c in checks]})
        raise typer.Exit(0 if ready else options.SOME_FAILED)
    rows = []
    for check in checks:
        mark = "ok" if check.good else "FAILS" if check.essential else "--"
        rows.append((mark, check.area, check.name, check.found))
        if check.command:
            rows.append(("", "", "", f"> {check.command}"))
    show.table(("", "area", "what", "found; > how to fix it"), rows)
    print()
    for sentence in surgery.summary(checks):
        show.say(sentence)
    raise typer.Exit(0 if ready else options.SOME_FAILED)
