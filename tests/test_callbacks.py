"""The live probe in a training by transformers or Lightning: what it scores, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_live import task
from torch import nn
from transformers import (
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)
from transformers.trainer_callback import CallbackHandler

import model_zoo
from ultrabench_eval import callbacks
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.live import RidgeProbe

NO_ACCELERATE = "needs accelerate, by which transformers' Trainer runs: pip install accelerate"
NO_LIGHTNING = "needs Lightning: pip install lightning"


def vit() -> ViTModel:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False)


def images() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 16, "width": 16})


class Net(nn.Module):
    """Mean brightness of 16 places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.adaptive_avg_pool2d(x[:, :1], 4).flatten(1))


@pytest.fixture
def mine() -> Iterator[str]:
    """A model of a plugin that loads the checkpoint of a `Net`."""

    @model_zoo.register("mine")
    class Mine(model_zoo.Encoder):
        input_rule = model_zoo.InputRule(size=16)

        def build(self, weights: Path | str | None) -> nn.Module:
            return model_zoo.fill(Net(), weights)

        def _forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

    yield "mine"
    model_zoo.registry.remove("mine")


# ---- transformers --------------------------------------------------------------------------------


def test_scores_are_those_of_the_saved_network_and_nothing_is_changed(tmp_path: Path) -> None:
    network, tasks = vit().train(), [task(60)]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    callback = callbacks.transformers(tasks, device="cpu")
    handler = CallbackHandler([callback], network, images(), None, None)
    args: Any = None  # the callback reads none, and TrainingArguments needs accelerate
    control = TrainerControl()
    state = TrainerState(epoch=0, global_step=0)
    random = torch.random.get_rng_state()
    handler.on_train_begin(args, state, control)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    network.save_pretrained(tmp_path / "saved")
    images().save_pretrained(tmp_path / "saved")
    encoder = model_zoo.load(f"hf/{tmp_path / 'saved'}", None, "cpu", "float32")
    expected = {f"probe_{name}": score for name, score in RidgeProbe(tasks)(encoder).items()}
    assert expected.keys() == {"probe_noise", "probe_mean"}
    assert state.log_history == [{**expected, "epoch": 0, "step": 0}]

    with torch.no_grad():
        network.embeddings.patch_embeddings.projection.weight.zero_()
    state.epoch, state.global_step = 1.0, 4
    handler.on_epoch_end(args, state, control)
    metrics: dict[str, Any] = {"eval_loss": 1.0}
    handler.on_evaluate(args, state, control, metrics)
    assert metrics.keys() == {"eval_loss", "eval_probe_noise", "eval_probe_mean"}
    assert metrics["eval_probe_mean"] == state.log_history[-1]["probe_mean"]
    assert metrics["eval_probe_mean"] < expected["probe_mean"]
    assert [one["step"] for one in callback.probe.history] == [0, 4]


def test_what_cannot_be_scored_is_a_sentence(mine: str) -> None:
    probe = callbacks.NetworkProbe([task(60)], device="cpu")
    with pytest.raises(UserError, match="no image processor"):
        probe(vit(), 0)
    with pytest.raises(UserError, match="name the model"):
        probe(Net(), 0)
    with pytest.raises(UserError, match=r"does not fit.*`part` chooses the part"):
        callbacks.NetworkProbe([task(60)], mine, device="cpu")(nn.Linear(3, 3), 0)
    network = nn.Sequential(Net(), nn.Linear(8, 2))
    random = torch.random.get_rng_state()
    scores = callbacks.NetworkProbe([task(60)], mine, lambda m: m[0], device="cpu")(network, 0)
    assert scores["probe_mean"] > 90
    assert torch.equal(torch.random.get_rng_state(), random)  # though another network was made


def test_a_trainer_chooses_its_best_checkpoint_by_the_probe(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason=NO_ACCELERATE)
    from transformers import Trainer, ViTForImageClassification

    rows = [{"pixel_values": torch.rand(3, 16, 16), "labels": n % 2} for n in range(8)]

    def trained(*more: Any) -> Any:
        torch.manual_seed(0)
        network = ViTForImageClassification(vit().config)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=2, report_to=[], use_cpu=True,
            eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=bool(more),
            metric_for_best_model="eval_probe_mean" if more else None, learning_rate=0.1,
            greater_is_better=True if more else None, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            network, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[*more]
        )
        trainer.train()
        return trainer

    watch = callbacks.transformers(
        [task(60)], part=lambda m: m.vit, processor=images(), device="cpu"
    )
    trainer = trained(watch)
    assert [one["step"] for one in watch.probe.history] == [0, 1, 2]
    best = max(one["probe_mean"] for one in watch.probe.history[1:])
    assert trainer.state.best_metric == best
    alone = trained()
    losses = [
        [one["eval_loss"] for one in each.state.log_history if "eval_loss" in one]
        for each in (trainer, alone)
    ]
    assert losses[0] == losses[1]  # the same training as without the callback


# ---- Lightning -----------------------------------------------------------------------------------


def test_lightning_logs_the_scores_and_chooses_by_them(tmp_path: Path, mine: str) -> None:
    library = pytest.importorskip("lightning.pytorch", reason=NO_LIGHTNING)

    class Module(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encoder, self.head = Net(), nn.Linear(8, 2)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.head(self.encoder(batch)).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = torch.utils.data.DataLoader(torch.rand(8, 3, 16, 16), batch_size=4)

    def trained(*more: Any) -> Any:
        module = Module()
        trainer = library.Trainer(
            accelerator="cpu", max_epochs=2, callbacks=[*more], logger=False,
            enable_checkpointing=bool(more), enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, loader)
        return trainer, module

    watch = callbacks.lightning([task(60)], mine, lambda module: module.encoder, device="cpu")
    best = library.callbacks.ModelCheckpoint(tmp_path, monitor="probe_mean", mode="max")
    trainer, module = trained(watch, best)
    assert [one["step"] for one in watch.probe.history] == [0, 2, 4]
    assert trainer.callback_metrics["probe_mean"] == watch.probe.history[-1]["probe_mean"]
    assert best.best_model_score == max(one["probe_mean"] for one in watch.probe.history[1:])
    _, alone = trained()
    for mine_, its in zip(module.parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine_, its)  # the same training as without the callback


def test_without_lightning_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "LIGHTNING", ("no_such_library",))
    with pytest.raises(UserError, match="pip install lightning"):
        callbacks.lightning([task(60)], "mine")
