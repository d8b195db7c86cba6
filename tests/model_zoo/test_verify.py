"""Reference vectors: every wrapper gives the authors' numbers, and each check can fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import model_zoo
from model_zoo import dinov3, echocare, pooling, sam, samus, usfm, verify, vit
from model_zoo.encoder import Encoder
from model_zoo.layouts import stacked
from model_zoo.transforms import InputRule
from ultrabench_eval.core.errors import UserError

LIGHT = ["dinov3", "ijepa-vitb16", "samus", "urfm", "us-jepa", "usf-mae", "usfm", "usrc-jepa"]
HEAVY = ["echocare", "ijepa", "sam", "ultrasam"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Checkpoints in the released layouts; only the last is kept, for each is big."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            for old in folder.iterdir():
                old.unlink()
            verify.write_checkpoint(verify.read(name), path)
        return path

    yield path_of
    for old in folder.iterdir():
        old.unlink()


def test_all_models_with_a_released_checkpoint_have_vectors() -> None:
    assert verify.names() == sorted(LIGHT + HEAVY)
    for name in verify.names():
        assert model_zoo.card(name).status.startswith("verified by")
        assert model_zoo.card(name).verified_with
    with pytest.raises(UserError, match="no reference vectors for model 'pixels'; there are: dino"):
        verify.replay("pixels")


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT + HEAVY)
def test_the_numbers_of_the_authors_code(checkpoints: Callable[[str], Path], name: str) -> None:
    vectors = verify.read(name)
    encoder = model_zoo.load(name, checkpoints(name), "cpu", "float32")
    results = verify.compare(encoder, vectors)
    assert {one.array for one in results} == set(vectors.expected)
    assert all(one.agrees for one in results), results


# ---- deliberate mistakes ------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], Any]


def attribute(target: Any, name: str, value: Any) -> Patch:
    return lambda patch: patch.setattr(target, name, value)


def eps(value: float) -> Patch:
    """Every LayerNorm of the network, whatever it was built with."""
    plain = nn.LayerNorm.__init__

    def init(self: nn.LayerNorm, shape: Any, **options: Any) -> None:
        plain(self, shape, **{**options, "eps": value})

    return attribute(nn.LayerNorm, "__init__", init)


def normalised(model: type[Encoder], mean: float, std: float) -> Patch:
    rule = model.input_rule
    assert rule is not None
    wrong = InputRule(rule.size, (mean,) * 3, (std,) * 3, grey=rule.grey)
    return attribute(model, "input_rule", wrong)


def without_positions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sam, "_relative", lambda table, grid: torch.zeros(grid, grid, table.shape[1]))


def swapped_positions(patch: pytest.MonkeyPatch) -> None:
    plain = sam._mix
    patch.setattr(sam, "_mix", lambda q, k, v, rows, columns: plain(q, k, v, columns, rows))


def merged_by_rows(patch: pytest.MonkeyPatch) -> None:
    """TL, TR, BL, BR instead of TL, BL, TR, BR."""

    def forward(self: echocare.Merging, x: Tensor) -> Tensor:
        four = [x[:, down::2, right::2] for down in (0, 1) for right in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))

    patch.setattr(echocare.Merging, "forward", forward)


def unshifted(patch: pytest.MonkeyPatch) -> None:
    plain = echocare.SwinBlock.__init__

    def init(self: echocare.SwinBlock, width: int, heads: int, shift: int) -> None:
        plain(self, width, heads, 0)

    patch.setattr(echocare.SwinBlock, "__init__", init)


def resized_positions(patch: pytest.MonkeyPatch) -> None:
    """SAMUS' position table brought to its grid by interpolation instead of the learnt layer."""
    plain = samus.CNN.forward

    def forward(self: samus.CNN, x: Tensor) -> Tensor:
        if isinstance(self.inc, nn.Identity):
            return nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
        return plain(self, x)

    patch.setattr(samus.CNN, "forward", forward)


def without_input_adapter(patch: pytest.MonkeyPatch) -> None:
    plain = samus.SAMUSNetwork.preneck

    def preneck(self: samus.SAMUSNetwork, images: Tensor) -> Tensor:
        self.input_Adapter.forward = torch.zeros_like  # type: ignore[method-assign]
        return plain(self, images)

    patch.setattr(samus.SAMUSNetwork, "preneck", preneck)


def unbiased(patch: pytest.MonkeyPatch) -> None:
    """USFM without its positions."""
    plain = vit.Block.forward
    patch.setattr(vit.Block, "forward", lambda self, x, bias=None, rotate=None: plain(self, x))


def unscaled(patch: pytest.MonkeyPatch) -> None:
    """USFM without its layer scale."""
    plain = vit.Block.__init__

    def init(self: vit.Block, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)

    def forward(self: vit.Block, x: Tensor, bias: Any = None, rotate: Any = None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias, rotate)
        return x + self.mlp(self.norm2(x))

    patch.setattr(vit.Block, "__init__", init)
    patch.setattr(vit.Block, "forward", forward)


def with_registers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dinov3.DINOv3, "_prefix", 1)


MISTAKES: dict[str, tuple[str, Patch]] = {
    "usf-mae: eps": ("usf-mae", eps(1e-5)),
    "usf-mae: mean and std": ("usf-mae", normalised(model_zoo.registry.get("usf-mae"), 0.5, 0.5)),
    "usf-mae: class token in the mean": (
        "usf-mae",
        lambda patch: patch.setitem(pooling.POOLINGS, "mean", lambda x, prefix: x.mean(1)),
    ),
    "urfm: raw weights": (
        "urfm",
        attribute(model_zoo.registry.get("urfm"), "entries", ("state_dict",)),
    ),
    "usfm: eps": ("usfm", eps(1e-5)),
    "usfm: no positions": ("usfm", unbiased),
    "usfm: no layer scale": ("usfm", unscaled),
    "dinov3: eps": ("dinov3", eps(1e-6)),
    "dinov3: registers pooled": ("dinov3", with_registers),
    "dinov3: key bias": ("dinov3", attribute(dinov3, "without_key_bias", stacked)),
    "dinov3: no rotation": (
        "dinov3",
        attribute(dinov3.Rotation, "__call__", lambda self, x: x),
    ),
    "ijepa-vitb16: context encoder": (
        "ijepa-vitb16",
        attribute(model_zoo.registry.get("ijepa-vitb16"), "entries", ("encoder",)),
    ),
    "ijepa-vitb16: eps": ("ijepa-vitb16", eps(1e-5)),
    "ijepa-vitb16: mean and std of the hub": (
        "ijepa-vitb16",
        normalised(model_zoo.registry.get("ijepa-vitb16"), 0.5, 0.5),
    ),
    "samus: mean and std": ("samus", normalised(samus.SAMUS, 0.45, 0.22)),
    "samus: eps": ("samus", eps(1e-5)),
    "samus: adapter scale": ("samus", attribute(samus, "_SCALE", 1.0)),
    "samus: input adapter": ("samus", without_input_adapter),
    "samus: positions resized": ("samus", resized_positions),
    "samus: relative positions": ("samus", without_positions),
    "samus: rows and columns": ("samus", swapped_positions),
    "sam: rows and columns": ("sam", swapped_positions),
    "sam: eps": ("sam", eps(1e-5)),
    "echocare: merging": ("echocare", merged_by_rows),
    "echocare: no shift": ("echocare", unshifted),
    "echocare: residual blocks": (
        "echocare",
        attribute(echocare.Residual, "forward", lambda self, x: x),
    ),
    "echocare: last norm": ("echocare", attribute(echocare, "normed", lambda x: x)),
    "echocare: mean and std": ("echocare", normalised(echocare.EchoCare, 0.45, 0.22)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    name, patch = MISTAKES[mistake]
    path = checkpoints(name)
    patch(monkeypatch)
    encoder = model_zoo.load(name, path, "cpu", "float32")
    # One array each of a heavy model, for its time.
    heavy = {"sam": "preneck_tokens", "samus": "gray_neck_tokens", "echocare": "tokens"}
    arrays = [heavy[name]] if name in heavy else []
    results = verify.compare(encoder, verify.read(name), arrays)
    assert not all(one.agrees for one in results), results


def test_usfm_is_checked_for_the_right_blocks() -> None:
    """The mistakes above patch blocks that USFM is made of."""
    network = model_zoo.load("usfm", "random", "cpu").network
    assert isinstance(network, usfm.RelativePositionViT)
    assert all(isinstance(block, vit.Block) for block in network.blocks)


# ---- the full vectors ---------------------------------------------------------------------------


@pytest.mark.shared
def test_the_excerpts_are_of_the_full_vectors(shared: Path) -> None:
    folders = {"us-jepa": "ijepa-vitb16", "usrc-jepa": "ijepa-vitb16"}
    for name in verify.names():
        full = np.load(shared / "conformance" / folders.get(name, name) / "expected.npz")
        for array, values in verify.read(name).expected.items():
            whole = full[array].reshape(-1, full[array].shape[-1])
            for row in values.reshape(-1, values.shape[-1]).numpy():
                assert (whole == row).all(axis=1).any(), (name, array)


def full_arrays(shared: Path, name: str) -> dict[str, Tensor]:
    arrays = np.load(shared / "conformance" / name / "expected.npz")
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["usf-mae", "urfm", "usfm", "dinov3", "ijepa-vitb16"])
def test_every_token_of_the_full_vectors(
    checkpoints: Callable[[str], Path], shared: Path, name: str
) -> None:
    expected = full_arrays(shared, name)
    encoder = model_zoo.load(name, checkpoints(name), "cpu", "float32")
    images = verify.read(name).images
    rows = expected.get("token_index", torch.arange(196))
    tokens = expected["tokens"] if "tokens" in expected else expected["patch_tokens"]
    torch.testing.assert_close(encoder.tokens(images)[:, rows], tokens, atol=2e-5, rtol=0)
    if name == "ijepa-vitb16":
        encoder.pooling = "last4"
        blocks = expected["block_mean"][:, -4:].flatten(1)
        torch.testing.assert_close(encoder.encode(images), blocks, atol=1e-4, rtol=1e-4)


@pytest.mark.shared
@pytest.mark.slow
def test_samus_keeps_colour_planes_apart(checkpoints: Callable[[str], Path], shared: Path) -> None:
    expected = full_arrays(shared, "samus")
    encoder = model_zoo.load("samus", checkpoints("samus"), "cpu", "float32")
    generator = np.random.Generator(np.random.PCG64(int(expected["input_seed"])))
    colour = torch.from_numpy(generator.random((2, 3, 256, 256)).astype(np.float32))
    for stage in ("preneck", "neck"):
        encoder.pooling = stage
        features = encoder.encode_prepared(colour)
        torch.testing.assert_close(features, expected[f"pooled_{stage}"], atol=2e-5, rtol=0)


@pytest.mark.shared
@pytest.mark.slow
def test_echocare_at_every_level_and_at_224(
    checkpoints: Callable[[str], Path], shared: Path
) -> None:
    expected = full_arrays(shared, "echocare")
    encoder = model_zoo.load("echocare", checkpoints("echocare"), "cpu", "float32")
    images = verify.read("echocare").images
    with torch.inference_mode():
        maps = encoder.network.levels(images)
    for level, values in enumerate(maps):
        means = echocare.normed(values).mean((1, 2))
        torch.testing.assert_close(means, expected[f"level{level}_mean"], atol=1e-4, rtol=0)
    generator = np.random.Generator(np.random.PCG64(int(expected["input_seed"])))
    smaller = torch.from_numpy(generator.random((2, 3, 224, 224)).astype(np.float32))
    features = encoder.encode_prepared(smaller)  # 28 and 14 places are no multiples of 8
    torch.testing.assert_close(features, expected["pooled_224"], atol=1e-4, rtol=0)


def test_windows_are_cut_and_joined() -> None:
    from model_zoo import windows

    for height, width in itertools.product((5, 8, 13), repeat=2):
        x = torch.rand(2, height, width, 3)
        cut = windows.cut(x, 4)
        assert cut.shape == (2 * -(-height // 4) * -(-width // 4), 4, 4, 3)
        assert torch.equal(cut[1, 0], nn.functional.pad(x, (0, 0, 0, 8))[0, 0, 4:8])
        assert torch.equal(windows.join(cut, height, width), x)
