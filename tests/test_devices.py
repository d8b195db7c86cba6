"""`ubench plan --devices`: what a run would cost elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import ubench
from test_plan import plan

import model_zoo
from ultrabench_eval import devices
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.workload import UnitForecast


class Product(model_zoo.Encoder):
    """One matrix product, and a sum that is in use beside what it is made of."""

    input_rule = model_zoo.InputRule(size=16)
    batch_size = 8

    def build(self, weights: Any) -> torch.nn.Module:
        return torch.nn.Linear(768, 100, bias=False)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        product = self.network(x.flatten(1))
        return torch.cat([product, product + 1], 1)


def test_arithmetic_and_memory_are_those_of_the_network() -> None:
    encoder = Product(name="product")
    work = devices.counted(encoder, torch.rand(3, 3, 16, 16), 0.001)
    assert work.flops == 2 * 768 * 100
    assert (work.parameters, work.batch) == (76800, 8)
    # The product, the product and one, and both of them; the input may be copied once.
    assert 400 <= work.activations <= 400 + 2 * 768
    half = devices.counted(encoder.to(torch.bfloat16), torch.rand(3, 3, 16, 16), 0.001)
    assert 400 <= half.activations <= 400 + 3 * 768  # one more copy, of the input


def test_results_are_shared_out_longest_first() -> None:
    seconds = (5.0, 4.0, 3.0, 3.0, 3.0)
    shares = [UnitForecast("a", str(n), 1, probe_seconds=s) for n, s in enumerate(seconds)]
    assert devices.fleet("2xA100", shares, {}, True).seconds == 10
    assert devices.parse("8xrtx4090") == (8, "RTX4090")
    assert devices.fleet("a100", shares, {}, True).seconds == 18
    shares = [UnitForecast("a", "t", 1, images=64, inputs=64, batches=2)]
    work = devices.Work(10**12, 1_000_000, 10**9, 32, 0.01)
    (placed,) = devices.fleet("1xT4", shares, {"a": work}, False).models
    assert placed.encoding == pytest.approx(64 / (devices.SHARE * 8.1))
    assert placed.reading == pytest.approx(64 * 0.01 / devices.CORES)
    assert placed.memory == pytest.approx(1.5 * (4 + 32 * 0.004))
    assert placed.fits
    large = work._replace(parameters=10**10)
    assert not devices.fleet("1xT4", shares, {"a": large}, False).models[0].fits


@pytest.mark.parametrize("text", ["8xB52", "0xH100", "xH100", "H100x8", ""])
def test_devices_that_are_not_known_are_told(text: str) -> None:
    with pytest.raises(UserError, match="write 8xH100, with one of H200"):
        devices.parse(text)


def test_a_plan_tells_other_devices(tmp_path: Path, manifest: Path) -> None:
    found = plan(tmp_path / "out", manifest, "pixels,image-stats", timing=True, on="4xL4")
    assert found.fleet is not None
    assert [one.model for one in found.fleet.models] == ["pixels", "image-stats"]
    assert found.as_dict()["devices"]["number"] == 4
    words = ("plan", "--model", "pixels", "--task", str(manifest), "--cache", str(tmp_path / "c"))
    assert "--no-timing" in ubench(*words, "--devices", "L4", "--no-timing").stderr
    assert "on 2 x L4: about" in ubench(*words, "--devices", "2xL4").stdout
