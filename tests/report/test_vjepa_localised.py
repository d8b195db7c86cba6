"""`ubench report --against vjepa-localised`: the paper's table and ours in its form."""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.paper import published, vjepa_localised
from ultrabench_eval.report.regenerate import gather
from ultrabench_eval.task_types import segmentation

RESULTS = Path(__file__).resolve().parents[2] / "results" / "dense" / "camus_vjepa"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("camus")
    with tarfile.open(RESULTS / "cells.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_ours_are_means_over_patients_of_the_statistics_that_are_stored(run):
    side = vjepa_localised.beside(Cells(run), gather(run))
    (one,) = side.ours
    assert one.cell.coordinates.model == "efficientnet-lite0"
    assert side.left_out == 1  # by the probe `dense`

    cells = Cells(run)
    sums = cells.predictions(one.cell)["statistics"].astype(float)[0]  # one seed, [N, K]
    groups = np.array(cells.test_set(str(one.cell.identity["task"])).groups)
    structures = sums.reshape(len(sums), -1, len(segmentation.COLUMNS))
    at = segmentation.COLUMNS.index
    for name, column, counted in (
        ("dice", "dice", "counted"),
        ("jaccard", "iou", "counted"),
        ("precision", "precision", "precision_counted"),
        ("recall", "recall", "present"),
    ):
        of_patients = []
        for patient in np.unique(groups):
            mine = structures[groups == patient].sum(0)
            of_patients.append(np.mean(mine[:, at(column)] / mine[:, at(counted)]))
        assert one.means[name] == pytest.approx(np.mean(of_patients), abs=1e-9)
        assert one.sds[name] == pytest.approx(np.std(of_patients, ddof=1), abs=1e-9)
    assert one.patients == 100


def test_the_defects_of_the_published_table_are_computed(run):
    side = vjepa_localised.beside(Cells(run), gather(run))
    assert len(side.published) == 32
    assert {row.method for row in side.published} == set(vjepa_localised.METHODS)
    assert all(row.jaccard > row.dice / (2 - row.dice) + 0.06 for row in side.published)
    text = vjepa_localised.markdown(side)
    assert "0.671 ± 0.967" in text
    assert text.index("misprint") < text.index("## Ours")
    assert "Nothing here is compared" in text
    rows = list(csv.DictReader(vjepa_localised.csv(side).splitlines()))
    assert [row["source"] for row in rows] == ["published"] * 32 + ["ours"]
    assert not {"difference", "published_is"} & set(rows[0])


def test_it_is_for_masks_alone(run):
    with pytest.raises(UserError, match="for --against alone"):
        published.find("vjepa-localised")
