"""Fine-tuning: against plain PyTorch and the frozen probe, killed, short of memory, by workers."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import forget_plugins, make_manifest
from forked import Forked
from tiny_network import plugin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import model_zoo
import tasks
import ultrabench_eval
from ultrabench_eval import finetune, plugins
from ultrabench_eval.cells import Cell, Cells, Failure
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.finetune import PreparedImages, Tunable
from ultrabench_eval.loading import Model
from ultrabench_eval.pipeline import Step
from ultrabench_eval.predict import predict
from ultrabench_eval.probes import finetune as classes
from ultrabench_eval.probes import finetune_numbers, linear_regression
from ultrabench_eval.probes.finetune_network import TunedNetwork
from ultrabench_eval.probes.heads import DataOf, streams
from ultrabench_eval.probes.linear import initial
from ultrabench_eval.protocol import PAPER, FineTuning, Protocol

SMALL = FineTuning(
    learning_rates=(1e-2,), max_epochs=3, batch_size=8, augmentation="none", head_learning_rate=1e-2
)
"""Short, and far enough from the released weights that a slip shows."""
SHORTER = replace(PAPER, name="shorter", gradient=replace(PAPER.gradient, max_epochs=40))
AS_PAPER = FineTuning(
    max_epochs=SHORTER.gradient.max_epochs,
    patience=PAPER.gradient.patience,
    warmup_epochs=0,
    augmentation="none",
)
"""The head is trained as the paper's linear probe, if not for as long."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the plugin and a task of 30 images."""
    monkeypatch.chdir(tmp_path)
    make_manifest(tmp_path / "a.csv", count=30)
    plugins.load_file(plugin(tmp_path))
    yield tmp_path
    forget_plugins()


def run(out: str, *protocols: Protocol | str, models: str = "tiny", **more: Any) -> list[Cell]:
    more = {"seeds": 2, "device": "cpu", "cache": "cache", "task": "a.csv", **more}
    task = more.pop("task")
    ultrabench_eval.run(models, task, protocol=list(protocols), out=out, **more)
    found = Cells(Path(out).absolute()).gather()
    reasons = [one.reason for one in found if isinstance(one, Failure)]
    assert not reasons, reasons
    return found  # type: ignore[return-value]


def probabilities(out: str, cell: Cell) -> np.ndarray:
    return Cells(Path(out).absolute()).predictions(cell)["probabilities"]


def tuning(name: str = "mine", **settings: Any) -> Protocol:
    return Protocol(name=name, finetune=replace(SMALL, **settings))


# ---- the same by plain PyTorch ------------------------------------------------------------------


def plain(seed: int, rate: float, settings: FineTuning) -> tuple[list[float], Tensor]:
    """Losses of all batches and probabilities of the test images, by PyTorch alone."""
    task = tasks.load("a.csv")
    encoder = model_zoo.load("tiny", device="cpu")
    network: Any = deepcopy(encoder.network).eval()

    def inputs(split: Any) -> Tensor:
        return torch.stack([encoder.prepare(image.read()) for image in split.images])

    x, x_validation, x_test = map(inputs, (task.train, task.validation, task.test))
    y, y_validation = map(torch.tensor, (task.train.labels, task.validation.labels))
    head = nn.Linear(8, 2)
    start = initial(seed, 2, 8)
    head.load_state_dict({"weight": start[:, :-1], "bias": start[:, -1]})
    stem = [network.stem.weight, network.stem.bias]
    blocks = [list(block.parameters()) for block in network.blocks]
    network.requires_grad_(True)
    network.norm.requires_grad_(False)
    network.last.requires_grad_(False)
    groups: list[dict[str, Any]] = [
        {
            "params": list(head.parameters()),
            "top": settings.head_learning_rate,
            "weight_decay": 1e-4,
        }
    ]
    for depth, (weight, bias) in enumerate([stem, *blocks]):
        top = rate * 0.75 ** (4 - depth)
        groups += [
            {"params": [weight], "top": top, "weight_decay": 0.05},
            {"params": [bias], "top": top, "weight_decay": 0.0},
        ]
    optimizer = torch.optim.AdamW(groups)

    def logits(x: Tensor) -> Tensor:
        return head(3 * network.maps(x).mean((2, 3)))

    order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
    losses, best, least, step = [], None, float("inf"), 0
    batches = -(-len(x) // settings.batch_size)
    for epoch in range(settings.max_epochs):
        for rows in torch.split(torch.randperm(len(x), generator=order), settings.batch_size):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = group["top"] * min(1, step / batches)
                group["lr"] *= (1 + cos(pi * epoch / settings.max_epochs)) / 2
            loss = cross_entropy(logits(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            now = cross_entropy(logits(x_validation), y_validation).item()
            if now < least:
                least, best = now, logits(x_test).softmax(1)
    assert best is not None
    return losses, best


def test_losses_and_predictions_are_those_of_plain_pytorch(place: Path) -> None:
    settings = replace(SMALL, max_epochs=20, patience=20)
    protocol = Protocol(finetune=settings)
    task, model = tasks.load("a.csv"), Model("tiny", None, "cpu", "float32")
    tunable = Tunable(model, place / "kept")
    train, validation, test = (
        PreparedImages(split.images, split.digests, tunable) for split in task.splits.values()
    )
    y, y_validation = map(torch.tensor, (task.train.labels, task.validation.labels))
    data = DataOf(train, y, validation, y_validation, 2)
    draws = streams(len(train), len(validation), range(5), None, None)
    before = model.encoder().weights_digest, hashing.digest_tensors(model.encoder().state_dict())
    trained = classes.train(data, draws, protocol)
    found = trained.predict(test)
    right = [], []  # of all test images and seeds
    for seed in range(5):
        losses, expected = plain(seed, 1e-2, settings)
        assert isinstance(trained.weights[seed].source, Path)
        kept = finetune.read(trained.weights[seed].source)
        assert kept is not None
        assert len(losses) == 60
        np.testing.assert_allclose(kept.facts["batches"][:50], losses[:50], rtol=0, atol=1e-5)
        torch.testing.assert_close(found[seed], expected, rtol=0, atol=1e-4)
        for answers, of in zip((found[seed], expected), right, strict=True):
            of += (answers.argmax(1).numpy() == task.test.labels).tolist()
    assert np.mean(right[0]) == pytest.approx(np.mean(right[1]), abs=0.01)
    # the sealed encoder is what it was
    assert hashing.digest_tensors(model.encoder().state_dict()) == before[1]
    assert model.encoder().fingerprint == model.fingerprint
    assert not any(parameter.requires_grad for parameter in model.encoder().parameters())


# ---- the frozen probe within --------------------------------------------------------------------


@pytest.mark.parametrize(
    "still", [{"learning_rates": (0.0,)}, {"scope": "last", "blocks": 0}], ids=["rate 0", "last 0"]
)
def test_a_network_that_does_not_move_gives_the_frozen_cell(still: dict[str, Any]) -> None:
    still_one = Protocol(name="still", finetune=replace(AS_PAPER, **still))
    frozen, tuned = sorted(
        run("out", SHORTER, still_one), key=lambda c: c.coordinates.probe != "linear"
    )
    assert (frozen.coordinates.probe, tuned.coordinates.probe) == ("linear", "finetune")
    np.testing.assert_allclose(
        probabilities("out", tuned), probabilities("out", frozen), rtol=0, atol=1e-6
    )
    epochs = [[head["best_epoch"] for head in one.heads] for one in (frozen, tuned)]
    assert epochs[0] == epochs[1]
    assert max(epochs[0]) > 20


# ---- killed -------------------------------------------------------------------------------------


CHILD = """
import pickle, sys
import ultrabench_eval
protocol = pickle.loads(bytes.fromhex(sys.argv[1]))
ultrabench_eval.run("stops", "a.csv", protocol=protocol, out="out", seeds=2, device="cpu",
                    cache="cache", plugin_files=["tiny_plugin.py"])
"""


def killed(pass_number: int, protocol: Protocol) -> None:
    """A run in a process that kills itself at a pass through the network in training."""
    Path("passes").write_text(str(pass_number))
    given = pickle.dumps(protocol).hex()
    assert Forked(CHILD, given, environment=os.environ).wait() == -signal.SIGKILL
    Path("passes").write_text("-1")


def test_a_killed_run_ends_in_the_same_bytes(place: Path) -> None:
    """18 training images are 5 passes an epoch, after one that looks for gradients: at the start of
    the third epoch, in the midst of the second, and in the second setting of seed 0."""
    protocol = tuning(learning_rates=(1e-2, 1e-3), augmentation="light", dropout=True)
    (whole,) = run("whole", protocol, models="stops")
    passes = -int(Path("passes").read_text())
    assert not list((place / "whole" / ".finetuned").iterdir())
    for number in (12, 8, 18):
        killed(number, protocol)
        assert list((place / "out" / ".finetuned").glob("*/*.safetensors"))
        (again,) = run("out", protocol, models="stops")
        assert -int(Path("passes").read_text()) < passes  # it went on from where it was
        assert again.predictions == whole.predictions
        assert (again.heads, again.sweep) == (whole.heads, whole.sweep)
        assert not list((place / "out" / ".finetuned").iterdir())
        shutil.rmtree("out")
    assert [(one["seed"], one["setting"]["learning_rate"]) for one in whole.sweep] == [
        *((0, 1e-2), (0, 1e-3), (1, whole.heads[0]["setting"]["learning_rate"]))
    ]


# ---- workers, memory, losses --------------------------------------------------------------------


def test_workers_take_a_seed_each_and_give_the_same_bytes(place: Path) -> None:
    protocol = Protocol(name="mine", finetune=SMALL)
    Path("mine.yaml").write_text(
        "finetune: {learning_rates: [0.01], max_epochs: 3, batch_size: 8, augmentation: none, "
        "head_learning_rate: 0.01}\n"
    )
    alone = run("alone", protocol, fractions="50,100")
    steps: list[Step] = []
    shared = run(
        "shared",
        "mine.yaml",
        fractions="50,100",
        workers=1,
        plugin_files=["tiny_plugin.py"],
        report=steps.append,
    )
    assert [one.predictions for one in shared] == [one.predictions for one in alone]
    logs = {path.name for path in Path("shared/.workers/tiny").iterdir()}
    assert logs == {"a.log", "a+seed-0.log", "a+seed-1.log"}
    assert [s.total for s in steps if s.stage == "units"][-1] == 3


def test_without_memory_for_a_batch_parts_of_it_give_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is simulated: a pass with a gradient may take two images at most."""
    protocol = tuning(accumulate=1)
    (enough,) = run("enough", protocol)
    forward = type(model_zoo.load("tiny"))._forward

    def short(room: int) -> Any:
        def passed(self: Any, x: Tensor) -> Tensor:
            if torch.is_grad_enabled() and len(x) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, x)

        return passed

    monkeypatch.setattr(type(model_zoo.load("tiny")), "_forward", short(2))
    (less,) = run("less", protocol, cache="other")
    np.testing.assert_allclose(
        probabilities("less", less), probabilities("enough", enough), rtol=0, atol=1e-5
    )
    assert [word for word in less.warnings if "memory ran out" in word]
    assert enough.warnings == []
    monkeypatch.setattr(type(model_zoo.load("tiny")), "_forward", short(0))
    with pytest.raises(AssertionError, match="not enough memory to fine-tune model 'tiny'"):
        run("none", protocol, cache="third")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("no-gradient", "gives no gradients"), ("explodes", "the loss became NaN in epoch 1")],
)
def test_what_cannot_be_trained_is_told_in_a_sentence(model: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        run("out", PAPER, tuning(), models=model)
    frozen, tuned = sorted(
        Cells(Path("out").absolute()).gather(), key=lambda one: one.coordinates.probe != "linear"
    )
    assert isinstance(frozen, Cell)
    assert isinstance(tuned, Failure)
    assert not tuned.traceback


def test_a_setting_that_diverges_is_left_out_and_told() -> None:
    """With 1e12 the first step leads out of all numbers."""
    (cell,) = run("out", tuning(learning_rates=(1e-2, 1e12)))
    assert {one["setting"]["learning_rate"] for one in cell.sweep} == {1e-2}
    assert [word for word in cell.warnings if "learning rate 1e+12" in word]


# ---- masks, numbers, and what a run can ask for besides -----------------------------------------


def test_masks_are_fine_tuned_and_flipped_with_their_images(place: Path) -> None:
    """SYNTHETIC bright squares. A batch in parts has the loss of the whole one, Dice and all."""
    generator = np.random.default_rng(0)
    lines = ["image,mask,split,group"]
    for n in range(24):
        mask = np.zeros((16, 16), np.uint8)
        top, left = generator.integers(0, 8, 2)
        mask[top : top + 8, left : left + 8] = 1
        pixels = (generator.normal(60, 20, (16, 16)) + 120 * mask).clip(0, 255).astype(np.uint8)
        for kind, array in (("image", pixels), ("mask", mask)):
            PIL.Image.fromarray(array).save(f"{kind}{n}.png")
        part = "train" if n < 12 else "val" if n < 18 else "test"
        lines.append(f"image{n}.png,mask{n}.png,{part},patient {n}")
    Path("squares.csv").write_text("\n".join(lines) + "\n")
    more = {"task": "squares.csv", "seeds": 1}
    (frozen,) = run("frozen", Protocol(name="d", standardize=True, predicts="masks"), **more)
    settings = {"max_epochs": 30, "patience": 30, "augmentation": "light", "batch_size": 4}
    (parts,) = run("parts", tuning(**settings, accumulate=4), **more)
    (whole,) = run("whole", tuning(**settings, accumulate=1), **more)
    assert whole.coordinates.probe == "finetune_masks"
    assert whole.scores["dice"][0] > frozen.scores["dice"][0]
    losses = [one.heads[0]["validation_loss"] for one in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0] < frozen.heads[0]["validation_loss"]


def test_numbers_that_do_not_move_the_network_are_those_of_linear_regression(place: Path) -> None:
    task, model = tasks.load("a.csv"), Model("tiny", None, "cpu", "float32")
    tunable = Tunable(model, place / "kept")
    splits = task.splits.values()
    train, validation, test = (PreparedImages(s.images, s.digests, tunable) for s in splits)
    y, y_validation = (
        torch.tensor([image.read().mean() for image in s.images], dtype=torch.float64)
        for s in (task.train, task.validation)
    )
    data = DataOf(train, y, validation, y_validation, 1)
    draws = streams(len(train), len(validation), range(2), None, None)
    gradient = replace(SHORTER.gradient, learning_rates=(0.03,))
    settings = replace(AS_PAPER, learning_rates=(0.0,), head_learning_rate=0.03)
    still = Protocol(standardize=True, gradient=gradient, finetune=settings)
    encode = tunable.encoder.encode_prepared
    x = [encode(one.whole()) for one in (train, validation, test)]
    frozen = linear_regression.train(DataOf(x[0], y, x[1], y_validation, 1), draws, still)
    tuned = finetune_numbers.train(data, draws, still).chosen()
    torch.testing.assert_close(tuned.predict(test), frozen.predict(x[2]), rtol=1e-5, atol=1e-3)


def test_corrupted_images_are_predicted_by_the_same_networks_and_probes_can_be_kept(
    place: Path,
) -> None:
    protocol = tuning()
    clean, *worse = sorted(
        run("out", protocol, corruptions="blur", keep_probes=True),
        key=lambda one: (one.coordinates.corruption != "none", one.coordinates.severity),
    )
    assert len(worse) == 3
    assert all(one.heads == clean.heads for one in worse)
    assert probabilities("out", worse[2]).tolist() != probabilities("out", clean).tolist()
    test = tasks.load("a.csv").test
    names = [str(place / "a_images" / image.name.rpartition("/")[2]) for image in test.images]
    found = predict("out", "tiny", names, seed=1, calibrated=False, device="cpu", cache="cache")
    np.testing.assert_allclose(
        found.probabilities, probabilities("out", clean)[1], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scope": "last", "blocks": 4}, "3 are found"),
        ({"input_size": 1024}, None),
        ({"scope": "lora"}, "no linear layers of attention"),
    ],
)
def test_parts_that_a_model_lacks(settings: dict[str, Any], sentence: str | None) -> None:
    """Of a network of convolutions any size can be asked for."""
    if sentence:
        with pytest.raises(AssertionError, match=sentence):
            run("out", tuning(**settings))
        return
    tunable = Tunable(Model("tiny", None, "cpu", "float32"), Path("kept"))
    split = tasks.load("a.csv").test
    images = PreparedImages(split.images, split.digests, tunable)
    assert images.at(64).shape[1:] == (3, 64, 64)
    vit = Model("random-vit-tiny", None, "cpu", "float32")
    with pytest.raises(UserError, match=r"vit.*cannot be given images of 1024 pixels"):
        PreparedImages(split.images, split.digests, Tunable(vit, Path("kept")), 1024)


def test_the_last_blocks_alone_change(place: Path) -> None:
    """A stem that moved would be seen in features of blocks that are cut off."""
    tunable = Tunable(Model("tiny", None, "cpu", "float32"), place / "kept")
    network = TunedNetwork(tunable, FineTuning(scope="last", blocks=1), finetune_numbers._Numbers())
    moved = [name for name, one in network.trunk.network.named_parameters() if one.requires_grad]
    assert moved == ["blocks.2.0.weight", "blocks.2.0.bias"]
    open_norms = FineTuning(scope="last", blocks=1, freeze_norm=False)
    network = TunedNetwork(tunable, open_norms, finetune_numbers._Numbers())
    moved = [name for name, one in network.trunk.network.named_parameters() if one.requires_grad]
    assert moved == ["blocks.2.0.weight", "blocks.2.0.bias", "last.weight", "last.bias"]
    assert network.train().trunk.network.norm.training
    assert not network.trunk.network.drop.training


def test_low_rank_additions_are_all_that_changes(place: Path) -> None:
    pytest.importorskip("peft", reason="LoRA needs the extra 'lora'")
    settings = FineTuning(scope="lora", rank=4, max_epochs=1, learning_rates=(1e-3,))
    (cell,) = run("out", Protocol(finetune=settings), models="random-vit-tiny", seeds=1)
    assert "additions of rank 4 to the attention (LoRA) (36,864 of" in cell.remarks[0]
    tunable = Tunable(Model("random-vit-tiny", None, "cpu", "float32"), place / "kept")
    state = TunedNetwork(tunable, settings, finetune_numbers._Numbers())
    names = [name for name, one in state.named_parameters() if one.requires_grad]
    assert names
    assert all(".lora_" in name for name in names)


def test_a_fine_tuned_number_is_never_taken_for_a_frozen_one(place: Path) -> None:
    """Means, letters, pairs, ranks, few-shot, advice and verdict: each is of one probe alone."""
    for seed, name in enumerate(("b.csv", "c.csv")):
        make_manifest(place / name, count=150, seed=seed)
    more = {"cache": "cache", "seeds": 2, "fractions": "50,100", "device": "cpu"}
    tuned = tuning(max_epochs=2)

    def pages(out: str, *protocols: Protocol) -> Path:
        wanted = {"protocol": list(protocols), "out": out, **more}
        ultrabench_eval.run("tiny,other", ["b.csv", "c.csv"], **wanted)
        return place / out

    both, frozen_alone, tuned_alone = (
        *(pages("both", PAPER, tuned), pages("frozen", PAPER), pages("tuned", tuned)),
    )
    for name in ("leaderboard.csv", "pairs.csv", "ranks.csv", "informativeness.csv"):
        every = rows_of(both / name)
        apart = rows_of(frozen_alone / name) + rows_of(tuned_alone / name)
        assert {row["probe"] for row in every} == {"linear", "finetune"}, name
        assert sorted(map(str, every)) == sorted(map(str, apart)), name
    sides = {(row["probe"], row["n_models"]) for row in rows_of(both / "protocols.csv")}
    assert sides == {("linear; finetune", "2")}  # the one place that sets them side by side
    for name in ("leaderboard.md", "fewshot.md"):
        tables = tables_of(both / name)
        alone = tables_of(frozen_alone / name) | tables_of(tuned_alone / name)
        named = [title for title in alone if " probe, protocol " in title]
        assert len(named) == 2, (name, list(alone))
        for title in named:
            assert tables[title] == alone[title], (name, title)
    page = (both / "leaderboard.md").read_text()
    assert "- other on b: fine-tuned: the whole network (2,144 of 2,176 parameters)" in page
    advice = (both / "choose.md").read_text()
    assert "linear probe" in advice
    assert "finetune" not in advice
    (first,) = Path(both / "figures").glob("fewshot-*finetune*.svg")
    assert "linear" not in first.name


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def tables_of(path: Path) -> dict[str, list[str]]:
    """Rows of tables by the heading above them."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in path.read_text().splitlines():
        title = line if line.startswith("#") else title
        if line.startswith("|"):
            found.setdefault(title, []).append(line)
    return found
