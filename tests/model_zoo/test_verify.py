"""Reference vectors: every wrapper gives the authors' numbers, and each check can fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from full_arrays import block_inputs, echocare_arrays, sam_arrays, vit_arrays
from mistakes import MISTAKES, Patch
from released_files import opened
from torch import nn

import model_zoo
from model_zoo import dinov3, sam, samus, verify, vit, windows
from model_zoo.checkpoints.layouts import stacked
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError

RELEASED = [
    *("dinov3", "echocare", "echoclip", "fetalclip", "ijepa", "ijepa-vitb16", "mobile-fetalclip"),
    *("panecho", "sam", "samus", "tinyusfm", "ultrafedfm", "ultrasam", "urfm"),
    *("us-jepa", "usf-mae", "usfm", "usrc-jepa"),
]
# Their vectors are replayed in test_clip_vectors.py.
CLIPS = [
    *("echofm", "echoprime", "panecho-clip", "videomae"),
    *("vjepa-vitb16", "vjepa-vitl16", "vjepa2-vitl"),
]
# Whose vectors hold what usual mistakes give, and not all tokens (test_outside_models.py).
NAMED = ("echoclip", "fetalclip", "mobile-fetalclip", "panecho", "tinyusfm", "ultrafedfm")
# A ViT-H, whose code is that of "ijepa-vitb16", and a twin of "sam", whose second vectors are here;
# `ubench verify` replays them whole.
SLOWEST = ("ijepa", "ultrasam")
CheckpointOf = Callable[..., Path]
EncoderOf = Callable[[str], Encoder]


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointOf]:
    """Checkpoints in the released layouts; only the last is kept, because each is big."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def path_of(name: str, second: bool = False) -> Path:
        path = folder / f"{name}-{second}.pth"
        if not path.exists():
            for old in folder.iterdir():
                old.unlink()
            verify.write_checkpoint(verify.read(name, second), path)
        return path

    yield path_of
    for old in folder.iterdir():
        old.unlink()


@pytest.fixture(scope="module")
def encoder_of(checkpoint_of: CheckpointOf) -> EncoderOf:
    """Encoders loaded from the first of their checkpoints; the last one is kept."""
    kept: dict[str, Encoder] = {}

    def loaded(name: str) -> Encoder:
        if name not in kept:
            kept.clear()
            kept[name] = opened(name, checkpoint_of(name))
        return kept[name]

    return loaded


def test_all_models_with_a_released_checkpoint_have_vectors() -> None:
    assert verify.names() == sorted([*RELEASED, *CLIPS])
    for name in verify.names():
        assert model_zoo.card(name).status.startswith("verified by")
        assert model_zoo.card(name).verified_with
    words = r"no reference vectors for model 'pixels' \(status: control\), so .*; there are: dino"
    with pytest.raises(UserError, match=words):
        verify.replay("pixels")
    with pytest.raises(UserError, match="unknown model 'echofmm'; did you mean 'echofm'"):
        verify.replay("echofmm")


def test_the_second_vectors_are_others() -> None:
    for name in RELEASED:
        first, second = verify.read(name), verify.read(name, second=True)
        assert first.described["input"]["seed"] != second.described["input"]["seed"]
        for entry, part in second.described["parts"].items():
            assert part["rule"] != first.described["parts"][entry]["rule"]
        assert {one["of"] for one in second.described["outputs"]} >= {"features"}
        for array, values in second.expected.items():
            if array in first.expected:
                there = first.expected[array].flatten(0, -2)
                assert (values.flatten(0, -2)[0] - there).abs().amax(1).min() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RELEASED if name not in (*NAMED, *SLOWEST)])
def test_the_numbers_of_the_authors_code(encoder_of: EncoderOf, name: str) -> None:
    if name not in ("us-jepa", "usrc-jepa") and SHARED.is_dir():
        pytest.skip("for its time: an excerpt of what is compared in full below")
    vectors = verify.read(name)
    results = verify.compare(encoder_of(name), vectors)
    assert {one.array for one in results} == set(vectors.expected)
    assert all(one.agrees for one in results), results


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_seen(
    encoder_of: EncoderOf, monkeypatch: pytest.MonkeyPatch, name: str, mistake: Patch
) -> None:
    encoder, vectors = encoder_of(name), first_image(verify.read(name))
    mistake(monkeypatch, encoder)
    results = verify.compare(encoder, vectors)
    assert not all(one.agrees for one in results), results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target", "attribute", "wrong"),
    [
        ("urfm", model_zoo.registry.get("urfm"), "entries", ("state_dict",)),  # not the averaged
        ("ijepa-vitb16", model_zoo.registry.get("ijepa-vitb16"), "entries", ("encoder",)),
        ("us-jepa", model_zoo.registry.get("us-jepa"), "entries", ("target_encoder",)),
        ("dinov3", dinov3, "without_key_bias", stacked),
    ],
)
def test_a_mistake_of_reading_is_seen(
    checkpoint_of: CheckpointOf,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    target: Any,
    attribute: str,
    wrong: Any,
) -> None:
    monkeypatch.setattr(target, attribute, wrong)
    encoder = opened(name, checkpoint_of(name))
    results = verify.compare(encoder, first_image(verify.read(name)))
    assert not any(one.agrees for one in results), results


def first_image(vectors: verify.Vectors) -> verify.Vectors:
    described = {**vectors.described, "input": {**vectors.described["input"], "batch": 1}}
    return vectors._replace(
        described=described, expected={key: x[:1] for key, x in vectors.expected.items()}
    )


def test_the_blocks_that_mistakes_are_made_in_are_those_of_all_kin() -> None:
    """One model stands for others above."""
    with torch.device("meta"):
        models = {name: model_zoo.registry.get(name) for name in RELEASED}
        networks = {name: one.make(object.__new__(one)) for name, one in models.items()}
    blocks = {name: list(getattr(net, "blocks", [])) for name, net in networks.items()}
    plain = ("dinov3", "ijepa", "ijepa-vitb16", "urfm", "us-jepa", "usf-mae", "usfm", "usrc-jepa")
    for name in plain:
        assert all(type(block) is vit.Block for block in blocks[name])
        assert all(type(block.attn) is vit.Attention for block in blocks[name])
    for name in ("sam", "ultrasam"):
        assert type(networks[name]) is sam.SAMNetwork
        assert all(type(block) is sam.Block for block in blocks[name])
    assert {type(block) for block in blocks["samus"]} == {sam.Block, samus.GlobalBlock}
    assert not {"forward", "attend"} & set(vars(samus.GlobalBlock))


# ---- the full vectors ---------------------------------------------------------------------------


@pytest.mark.shared
def test_the_excerpts_are_of_the_full_vectors(shared: Path) -> None:
    folders = {"us-jepa": "ijepa-vitb16", "usrc-jepa": "ijepa-vitb16",
               "vjepa-vitb16": "vjepa-vitb16-112px", "panecho-clip": "panecho"}  # fmt: skip
    for name in verify.names():
        if name == "videomae":  # whose vectors this project made
            continue
        full = np.load(shared / "conformance" / folders.get(name, name) / "expected.npz")
        for array, values in verify.read(name).expected.items():
            whole = full[array].reshape(-1, full[array].shape[-1])
            for row in values.reshape(-1, values.shape[-1]).numpy():
                assert (whole == row).all(axis=1).any(), (name, array)


# Of the input, of the rule, and of I-JEPA's predictor, which does not belong to an encoder.
NOT_OUTPUTS = {
    *("input_seed", "input_size", "batch", "input_head", "input_head_224", "normalised_head"),
    *("token_index", "grid_rows", "grid_cols", "context_index", "rope_periods", "fill_scale"),
    *("target_index", "predicted", "smooth_l1_to_layernormed_own_output"),
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in RELEASED if name not in ("us-jepa", "usrc-jepa", *NAMED, *SLOWEST)],
)
def test_every_array_of_the_full_vectors(
    encoder_of: EncoderOf, checkpoint_of: CheckpointOf, shared: Path, name: str
) -> None:
    with np.load(shared / "conformance" / name / "expected.npz") as arrays:
        full = {key: torch.from_numpy(value) for key, value in arrays.items()}
    encoder, images = encoder_of(name), verify.read(name).images
    with torch.inference_mode(), verify.one_pass(encoder), block_inputs(encoder) as inputs:
        if name == "echocare":
            given = echocare_arrays(encoder, images, full)
        elif isinstance(encoder, sam.SAMEncoder):
            given = sam_arrays(encoder, images, full, inputs)
        else:
            given = vit_arrays(encoder, images, full, inputs)
    if name == "urfm":
        raw = opened(name, f"{checkpoint_of(name)}#state_dict")
        given["pooled_mean_raw_weights"] = raw.encode(images)
    assert set(given) == set(full) - NOT_OUTPUTS
    for array, values in given.items():
        # Before a norm, values are larger: relative to them.
        torch.testing.assert_close(
            values.cpu(), full[array], atol=1e-4, rtol=1e-5, msg=lambda m, a=array: f"{a}: {m}"
        )


# Six are left out for their time: "ijepa-vitb16", "ultrasam" and "usf-mae" run the same code as
# five of them, and `ubench verify fetalclip` replays the sixth's.
LEFT_OUT = ("ijepa", "us-jepa", "usrc-jepa", "sam", "fetalclip", "ultrafedfm")
TWICE = [name for name in RELEASED if name not in LEFT_OUT]


@pytest.mark.slow
@pytest.mark.parametrize("name", TWICE)
def test_the_second_vectors(checkpoint_of: CheckpointOf, name: str) -> None:
    vectors = first_image(verify.read(name, second=True))  # batches are compared above
    encoder = opened(name, checkpoint_of(name, second=True))
    results = verify.compare(encoder, vectors)
    assert {one.array for one in results} == set(vectors.expected)
    assert all(one.agrees for one in results), results


def test_windows_are_cut_and_joined() -> None:
    for height, width in itertools.product((5, 8, 13), repeat=2):
        x = torch.rand(2, height, width, 3)
        cut = windows.cut(x, 4)
        assert cut.shape == (2 * -(-height // 4) * -(-width // 4), 4, 4, 3)
        assert torch.equal(cut[1, 0], nn.functional.pad(x, (0, 0, 0, 8))[0, 0, 4:8])
        assert torch.equal(windows.join(cut, height, width), x)
