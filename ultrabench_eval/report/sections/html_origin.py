"""Plain tables of the HTML page: models, ranks, protocols, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ultrabench_eval.cells import FORMAT, Cell
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import Entry, Labels, Probing, between, cells_of
from ultrabench_eval.report.sections import protocols
from ultrabench_eval.report.sections.page import MODELS, model_rows, settings, weights_file
from ultrabench_eval.report.sections.significance import RANKS, Section, mean_of, rank_cells
from ultrabench_eval.report.tables.table import Table


def models(cells: Iterable[Cell], labels: Labels) -> Table:
    """What each model is."""
    # `provenance` has the weights and fingerprints in full.
    head = tuple(name for name in MODELS if name not in ("weights", "fingerprint"))
    rows = [dict(zip(MODELS, row, strict=True)) for row in model_rows(cells, labels)]
    for row in rows:
        row[head[-1]] = row[head[-1]] or "not known"
    right = [head.index(name) for name in ("features", "parameters")]
    return Table(head, [[row[name] for name in head] for row in rows], "Models", right=right)


def rankings(
    section: Section, labels: Labels, metrics: Mapping[Probing, Metric]
) -> dict[Probing, Table]:
    """Mean ranks over tasks and how sure the first place is, by probe and protocol."""
    means = by_key(
        (probing, row) for probing, row in section.rows if row["task"] == mean_of(probing.type)
    )
    return {
        probing: Table(
            RANKS,
            [
                rank_cells(row, metrics[probing], labels)
                for row in sorted(rows, key=lambda row: row["rank"])
            ],
            f"{probing}, over the tasks that all models have"
            + (" (SYNTHETIC)" if any(row["synthetic"] for row in rows) else ""),
        )
        for probing, rows in means.items()
    }


def agreements(section: Section | None) -> Table | None:
    """Whether another protocol would have ranked the models differently."""
    if section is None or not section.rows:
        return None
    head = ("task", "protocols", "models", "Kendall's tau (95 %)", "pairs that change order")
    rows = []
    for probing, row in section.rows:
        mark = " (SYNTHETIC)" if row["synthetic"] else ""
        other = row["probe"].rpartition("; ")[2]
        a = replace(probing, protocol=row["protocol_a"])
        both = protocols.words(a, other, row["protocol_b"])
        models = row["n_models"]
        changed = f"{row['n_changed']} of {models * (models - 1) // 2}"
        swapped = f": {row['changed']}" if row["changed"] else ""
        which = "all" if row["models"] == "all" else "without controls"
        text = between(row["tau"], row["low"], row["high"], 2) or "all tie"
        rows.append((f"{row['task']}{mark}", both, f"{which}, {models}", text, changed + swapped))
    return Table(head, rows, section.title, right=())


# ---- provenance ---------------------------------------------------------------------------------


def provenance(entries: Sequence[Entry], labels: Labels) -> list[Table]:
    """What the numbers were made of, to the last digit of each checksum."""
    cells = cells_of(entries)
    if not cells:
        return []
    return [
        Table(
            ("model", "fingerprint", "weights", "SHA-256 of the weights"),
            _distinct(cells, lambda cell: _model(cell, labels)),
            "Fingerprints of the models",
            right=(),
            code=(1, 3),
        ),
        Table(
            ("task", "fingerprint"),
            _distinct(cells, lambda c: (labels.task(c.coordinates.task), str(c.identity["task"]))),
            "Fingerprints of the tasks",
            right=(),
            code=(1,),
        ),
        Table(
            ("protocol", "probe", "seeds", "SHA-256 of the settings", "settings"),
            _distinct(cells, _protocol),
            "Protocols",
            right=(),
            code=(3,),
        ),
        Table(("what", "version"), tuple(versions(cells).items()), "Made with", right=()),
        Table(
            ("what", "how many"),
            (
                ("measured", str(len(cells))),
                ("failed", str(len(entries) - len(cells))),
                ("version of their format", str(FORMAT)),
            ),
            "Cells",
        ),
    ]


def _distinct(
    cells: Iterable[Cell], row: Callable[[Cell], tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(map(row, cells)))


def _model(cell: Cell, labels: Labels) -> tuple[str, ...]:
    return (
        labels.model(cell.coordinates.model),
        str(cell.identity["model"]),
        "random" if cell.random_weights else weights_file(cell) or "none",
        str(cell.model.get("weights_sha256") or ""),
    )


def _protocol(cell: Cell) -> tuple[str, ...]:
    return (
        cell.coordinates.protocol,
        cell.coordinates.probe,
        str(cell.identity["seeds"]),
        str(cell.identity["protocol"]),
        settings(cell.protocol),
    )


def versions(cells: Iterable[Cell]) -> dict[str, str]:
    """Of each library; several only where results of several runs lie in one folder."""
    found = by_key(of for cell in cells for of in cell.versions.items())
    return {name: " or ".join(dict.fromkeys(some)) for name, some in found.items()}
