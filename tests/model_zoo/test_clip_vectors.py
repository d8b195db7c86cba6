"""Reference vectors of encoders of clips: the authors' numbers, and mistakes that are named.

The three of ViT-L take a minute each: `ubench verify echofm,vjepa-vitl16,vjepa2-vitl`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_files import opened

from model_zoo import echofm, verify
from model_zoo.encoder import Encoder
from model_zoo.transforms import InputRule


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An encoder from a checkpoint that the rule filled."""
    path = tmp_path / "w.pth"
    verify.write_checkpoint(verify.read(request.param), path)
    yield opened(request.param, path)
    path.unlink()


def agrees(encoder: Encoder) -> verify.Vectors:
    vectors = verify.read(encoder.name)
    vectors.described["input"]["batch"] = 1
    for array, values in vectors.expected.items():
        vectors.expected[array] = values[:1]
    for one in verify.compare(encoder, vectors):
        assert one.largest <= 1e-4 * vectors.expected[one.array].abs().max(), one
        assert one.agrees
        assert not one.mistake
    return vectors


@pytest.mark.slow
@pytest.mark.parametrize("filled", ["echoprime", "panecho-clip", "videomae"], indirect=True)
def test_the_numbers_of_the_authors_code(filled: Encoder) -> None:
    agrees(filled)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mistake", "words"),
    [
        ("panecho-clip", "wrong_clip_frames_not_mixed", "Frames go through the image encoder one"),
        ("panecho-clip", "wrong_clip_12_heads", "The frame transformer has 12 heads; it has 8"),
        ("echoprime", "wrong_imagenet_mean_std", "ImageNet's mean and std are used: this model h"),
        ("echoprime", "wrong_0_to_1_same_mean_std", "Values from 0 to 1 are normalised by a mean"),
        ("echofm", "wrong_max", "The maximum over the tokens is given: it is their mean"),
    ],
)
def test_a_mistake_is_named(shared: Path, name: str, mistake: str, words: str) -> None:
    with np.load(shared / "conformance" / name.removesuffix("-clip") / "expected.npz") as arrays:
        features = torch.from_numpy(arrays[mistake])[0]
    vectors = verify.read(name)
    first = vectors.described["outputs"][0]["array"]
    assert verify.mistake(features, first, vectors).startswith(words)
    assert not verify.mistake(vectors.expected[first][0], first, vectors)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("filled", ["vjepa-vitb16"], indirect=True)
def test_vjepa_at_this_size_and_at_others(filled: Encoder, shared: Path) -> None:
    agrees(filled)
    with np.load(shared / "conformance" / "vjepa-vitb16-112px" / "expected.npz") as arrays:
        expected = {key: torch.from_numpy(value) for key, value in arrays.items()}
    network: Any = filled.network
    rule = InputRule(112)
    mean, std = (torch.tensor(one).view(3, 1, 1, 1) for one in (rule.mean, rule.std))
    with torch.inference_mode():
        for frames, size in ((8, 112), (16, 160), (8, 64)):
            noise = np.random.Generator(np.random.PCG64(20260227)).random(
                (1, 3, frames, size, size)
            )
            tokens = network((torch.from_numpy(noise.astype(np.float32)) - mean) / std)
            start, step = f"other_{frames}f_{size}px", max(1, tokens.shape[1] // 16)
            for given, array in ((tokens.mean(1), "pooled_mean"),
                                 (tokens[:, ::step][:, :16], "tokens")):  # fmt: skip
                torch.testing.assert_close(given, expected[f"{start}_{array}"], atol=1e-5, rtol=0)
        still = np.random.Generator(np.random.PCG64(20260228)).random((1, 3, 1, 112, 112))
        image = torch.from_numpy(still.astype(np.float32))[:, :, 0]
    torch.testing.assert_close(
        filled.encode(image), expected["still_image_pooled_mean"], atol=1e-5, rtol=0
    )


def test_the_tables_of_echofm_become_one() -> None:
    one, places, steps = torch.rand(1, 1, 4), torch.rand(1, 196, 4), torch.rand(1, 8, 4)
    table = echofm._table([one, places, steps])
    assert table.shape == (1, 1 + 8 * 196, 4)
    assert torch.equal(table[0, 0], one[0, 0])
    assert torch.equal(table[0, 1 + 3 * 196 + 7], places[0, 7] + steps[0, 3])
