"""V-JEPA's attentive classifier: the authors' figures, training, and kept probes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from arrays import fit
from torch import Tensor
from torch.nn.functional import cross_entropy

from model_zoo.verify import by_rule
from ultrabench_eval.probes import attentive_block
from ultrabench_eval.protocol import Protocol

KEYS = (
    *("query_tokens", "cross_attention_block.norm1.weight", "cross_attention_block.norm1.bias"),
    *("cross_attention_block.xattn.q.weight", "cross_attention_block.xattn.q.bias"),
    *("cross_attention_block.xattn.kv.weight", "cross_attention_block.xattn.kv.bias"),
    *("cross_attention_block.norm2.weight", "cross_attention_block.norm2.bias"),
    *("cross_attention_block.mlp.fc1.weight", "cross_attention_block.mlp.fc1.bias"),
    *("cross_attention_block.mlp.fc2.weight", "cross_attention_block.mlp.fc2.bias"),
)


@pytest.mark.shared
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_figures_of_the_authors_code(shared: Path, version: str) -> None:
    folder = shared / "conformance" / "vjepa-attentive-probe"
    listed = json.loads((folder / f"keys_{version}.json").read_text())["depth1"]
    held = {one["key"]: by_rule(one["key"], one["shape"]) for one in listed}
    names = [f"module.pooler.{key}" for key in KEYS] + [
        "module.linear.weight",
        "module.linear.bias",
    ]
    # v1 also holds a projection that its forward pass does not use.
    assert {key for key in held if key not in names} <= {
        f"module.pooler.cross_attention_block.xattn.proj.{end}" for end in ("weight", "bias")
    }
    forms = attentive_block.shapes(96, 5)
    layers = [held[name].reshape(form) for name, form in zip(names, forms, strict=True)]
    layers[0].requires_grad_()
    draw = np.random.Generator(np.random.PCG64(20260222)).standard_normal((3, 40, 96))
    pooled, found = attentive_block.logits(layers, torch.from_numpy(draw.astype(np.float32)), 3)
    loss = cross_entropy(found, torch.tensor([0, 3, 1]))
    loss.backward()
    with np.load(folder / f"expected_{version}.npz") as figures:
        for name, value in {
            "logits": found,
            "pooled": pooled.unsqueeze(1),
            "loss": loss,
            "query_grad": layers[0].grad,
        }.items():
            assert isinstance(value, Tensor)
            right = torch.from_numpy(np.asarray(figures[f"depth1_{name}"]))
            torch.testing.assert_close(
                value.detach().reshape(right.shape), right, atol=1e-5, rtol=1e-5
            )


def test_it_finds_the_token_that_decides() -> None:
    """One token of twelve has the class, at a place of its own in each image: the mean of all
    hardly shows it."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(240, 12, 16, generator=draw)
    y = torch.arange(240) % 2
    places = torch.randint(12, (240,), generator=draw)
    x[torch.arange(240), places, 0] = 8.0
    x[torch.arange(240), places, 1] = 6.0 * (2 * y - 1).float()
    own = attentive_block.AttentiveBlockSettings(learning_rates=(3e-3,))
    protocol = Protocol(name="quick", own=(("attentive_block", own),))
    parts = x[:160], y[:160], x[160:], y[160:]
    probes = fit("attentive_block", *parts, classes=2, seeds=[0, 1], protocol=protocol)
    right = probes.predict(x[160:]).argmax(-1) == y[160:]
    assert right.float().mean(1).min() > 0.9
    again = fit("attentive_block", *parts, classes=2, seeds=[1], protocol=protocol)
    assert torch.equal(again.parameters[0], probes.parameters[1])  # its bits depend on no other
