"""The video transformer against the figures of the official V-JEPA and V-JEPA 2 codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model_zoo.transforms import InputRule
from model_zoo.verify import by_rule
from model_zoo.video_vit import VideoTransformer, sine_cosine_table

TOLERANCE = 1e-5  # as stated beside the figures


def reference(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(folder / "expected.npz") as arrays:
        expected = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    return json.loads((folder / "keys.json").read_text()), expected


def filled(network: VideoTransformer, keys: list[dict[str, Any]]) -> VideoTransformer:
    start = "module.backbone."
    network.load_state_dict(
        {row["key"].removeprefix(start): by_rule(row["key"], row["shape"]) for row in keys}
    )
    return network


def normalised(seed: int, *shape: int) -> Tensor:
    """Clips [B, 3, T, H, W] of noise with ImageNet's statistics."""
    noise = np.random.Generator(np.random.PCG64(seed)).random(shape).astype(np.float32)
    rule = InputRule(224)
    mean, std = (torch.tensor(one).view(3, 1, 1, 1) for one in (rule.mean, rule.std))
    return (torch.from_numpy(noise) - mean) / std


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["vjepa-train-tiny", "vjepa2-train-tiny"])
@torch.no_grad()
def test_tokens_of_whole_and_masked_clips_are_the_official_ones(shared: Path, name: str) -> None:
    keys, expected = reference(shared / "conformance" / name)
    network = VideoTransformer(64, 8, 16, 2, 192, 12, 3, rotary=name.startswith("vjepa2"))
    filled(network, keys["encoder_keys"])
    clips = normalised(int(expected["input_seed"]), 2, 3, 8, 64, 64)
    close(network(clips), expected["target_tokens"])
    for kind in ("short", "long"):
        keep = expected[f"step1_{kind}_context_index"].long()
        close(network(clips, keep), expected[f"{kind}_context_tokens"])


@pytest.mark.shared
def test_the_tables_that_training_starts_from(shared: Path) -> None:
    _, expected = reference(shared / "conformance" / "vjepa-vitb16-112px")
    rows = expected["sincos_row_index"].long()
    for name, width, uniform in (
        ("sincos_3d_uniform", 768, True),
        ("sincos_3d_not_uniform", 768, False),
        ("sincos_384_uniform", 384, True),
    ):
        close(sine_cosine_table((8, 7, 7), width, uniform)[rows], expected[name])


def test_it_starts_as_the_paper_s_code_and_the_table_is_not_trained() -> None:
    network = VideoTransformer(32, 4, 16, 2, 48, 1, 3)
    weights = dict(network.named_parameters())
    assert [key for key, value in weights.items() if not value.requires_grad] == ["pos_embed"]
    for key in ("patch_embed.proj", "blocks.0.attn.proj", "blocks.0.mlp.fc2"):  # not rescaled
        assert float(weights[f"{key}.weight"].detach().std()) == pytest.approx(0.02, rel=0.1)
        assert not weights[f"{key}.bias"].any()
    with pytest.raises(ValueError, match="at least 2 frames"):
        network(torch.zeros(1, 3, 1, 32, 32))
