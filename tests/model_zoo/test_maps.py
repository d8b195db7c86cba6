"""Feature maps: each place is where its part of the image is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from test_encoder import Tiny
from test_every_model import NAMES, load, narrow, picture  # noqa: F401
from torch import Tensor, nn

import model_zoo
from model_zoo.encoder import Encoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule, to_float


def scene(height: int, width: int) -> np.ndarray:
    """Coarse shades of grey, uint8 [H, W, 3]."""
    noise = np.random.default_rng(0).integers(40, 140, (5, 7), dtype=np.uint8)
    resized = PIL.Image.fromarray(noise).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(resized)[:, :, None], 3, axis=2)


def place_of_change(encoder: Encoder, row: float, column: float, height: int, width: int):
    """Where in the image, in [0, 1], a map changes most if a spot appears, and a place's size."""
    image = scene(height, width)
    top, left = int(row * height), int(column * width)
    spotted = image.copy()
    spotted[top - 4 : top + 4, left - 4 : left + 4] = 255
    found, *_ = encoder.maps_prepared(torch.stack([*map(encoder.prepare, (image, spotted))]))
    change = (found[1] - found[0]).square().sum(0)
    rows, columns = change.shape
    down, right, *begins = encoder.extent(height, width)
    top, left = begins or (0, 0)
    at = int(change.argmax())
    where = (
        ((at // columns + 0.5) / rows - top) / down,
        ((at % columns + 0.5) / columns - left) / right,
    )
    return where, (1 / rows / down, 1 / columns / right)


def assert_in_place(encoder: Encoder, reach: float) -> None:
    """Spots change the map at their own place; at most `reach` places further."""
    for row, column in ((0.2, 0.8), (0.75, 0.3), (0.5, 0.6)):
        where, size = place_of_change(encoder, row, column, 120, 180)
        assert abs(where[0] - row) <= (0.5 + reach) * size[0] + 0.02, (where, row, column)
        assert abs(where[1] - column) <= (0.5 + reach) * size[1] + 0.02, (where, row, column)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("image-stats", "constant")]
)
def test_maps_of_the_zoo(load: Callable[..., Encoder], name: str) -> None:  # noqa: F811
    encoder = load(name)
    images = torch.stack([to_float(picture(seed)) for seed in range(2)])
    maps = encoder.maps(images)
    for found, alone in zip(maps, encoder.maps(images[1:]), strict=True):
        assert found.dtype == torch.float32
        assert found.ndim == 4
        assert len(found) == 2
        assert torch.isfinite(found).all()
        assert not found.requires_grad
        torch.testing.assert_close(alone, found[1:], rtol=1e-3, atol=1e-3)
    convolutions = ("efficientnet", "echocare", "timm/test_resnet", "echoclip", "panecho", "mobile")
    stages = name.startswith(convolutions) or len(maps) > 1
    if not stages and encoder.patch_size:
        (found,) = maps
        assert torch.equal(found.flatten(2).mT, encoder.tokens(images))
    if name not in ("fan-mask", "border", "mean-mask"):  # which don't see what is inside the scan
        assert_in_place(encoder, reach=1.0 if stages else 0.3)


def test_stages_are_side_by_side(load: Callable[..., Encoder]) -> None:  # noqa: F811
    encoder = load("efficientnet-lite0")
    images = to_float(picture(1))[None]
    (found,) = encoder.maps(images)
    assert found.shape == (1, 112 + 320, 14, 14)
    given = []
    last = encoder.network._blocks[-1]  # type: ignore[operator, index, union-attr]
    hook = last.register_forward_hook(lambda block, into, out: given.append(out))
    encoder.encode(images)
    hook.remove()
    wanted = nn.functional.interpolate(given[0], (14, 14), mode="bilinear", align_corners=False)
    assert torch.equal(found[:, 112:], wanted)
    assert encoder.network._blocks[0]._forward_hooks == {}  # type: ignore[operator, index]
    assert load("echocare").maps(images)[0].shape[1] == (8 + 16) * 32  # widths of both levels


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_coatnet"])
def test_maps_of_timm(name: str) -> None:
    encoder = model_zoo.load(f"timm/{name}", "random", "cpu", "float32")
    widths = [stage["num_chs"] for stage in encoder.network.feature_info]  # type: ignore[union-attr]
    size = encoder.input_size or 0
    (found,) = encoder.maps(to_float(picture(0))[None])
    assert found.shape == (1, sum(widths[-2:]), size // 16, size // 16)
    assert_in_place(encoder, reach=1.0)


def make_hf(folder: Path, kind: str) -> None:
    """An untrained network of transformers for 64 pixels."""
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=64, patch_size=8,
        )  # fmt: skip
        model = transformers.ViTModel(config)
    elif kind == "vit_mae":
        config = transformers.ViTMAEConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=64, patch_size=8,
        )  # fmt: skip
        model = transformers.ViTMAEModel(config)
    elif kind == "swin":
        config = transformers.SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
            window_size=2,
        )  # fmt: skip
        model = transformers.SwinModel(config)
    else:
        config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])
        model = transformers.ConvNextModel(config)
    model.save_pretrained(folder)
    told = {"size": {"height": 64, "width": 64}, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("vit", (32, 8, 8)),
        ("vit_mae", (32, 8, 8)),
        ("swin", (32 + 64, 4, 4)),
        ("convnext", (16 + 24, 4, 4)),
    ],
)
def test_maps_of_transformers(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    make_hf(tmp_path, kind)
    encoder = model_zoo.load(f"hf/{tmp_path}", device="cpu", dtype="float32")
    images = to_float(picture(0))[None]
    (found,) = encoder.maps(images)
    assert found.shape[1:] == shape
    if kind.startswith("vit"):
        assert torch.equal(found.flatten(2).mT, encoder.tokens(images))
    assert_in_place(encoder, reach=0.3 if kind.startswith("vit") else 1.0)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_maps_of_open_clip(tmp_path: Path, kind: str) -> None:
    vision = {"image_size": 64, "width": 64, "layers": 2, "patch_size": 8}
    if kind == "resnet":
        vision |= {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    path = tmp_path / f"maps-of-{kind}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    encoder = model_zoo.load(f"open_clip/maps-of-{kind}", "random", "cpu", "float32")
    images = to_float(picture(0))[None]
    (found,) = encoder.maps(images)
    if kind == "vit":
        assert torch.equal(found.flatten(2).mT, encoder.tokens(images))
        assert found.shape == (1, 64, 8, 8)
    else:
        assert found.shape == (1, 4 * 8 * 4 + 4 * 8 * 8, 4, 4)
    assert_in_place(encoder, reach=0.3 if kind == "vit" else 1.0)


# ---- the contract, on small encoders ------------------------------------------------------------


class Wide(Tiny):
    """Its input is twice as wide as high."""

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        pixels = image if isinstance(image, Tensor) else to_float(image)
        return nn.functional.interpolate(pixels[None], (16, 32), mode="area")[0]

    def _tokens(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4).flatten(2).mT


@pytest.mark.parametrize("patch_size", [None, 4])
def test_tokens_of_an_input_that_is_no_square_are_a_grid(patch_size: int | None) -> None:
    encoder = Wide(name="wide")
    encoder.patch_size = patch_size
    (found,) = encoder.maps(to_float(picture(0))[None])
    assert found.shape == (1, 3, 4, 8)
    assert_in_place(encoder, reach=0)


def test_tokens_that_are_no_grid_are_told() -> None:
    class WithClassToken(Wide):
        def _tokens(self, x: Tensor) -> Tensor:
            tokens = super()._tokens(x)
            return torch.cat([tokens[:, :1], tokens], 1)

    with pytest.raises(ValueError, match="WithClassToken gave 33 tokens for an input of 16 x 32 "):
        WithClassToken(name="t").maps(to_float(picture(0))[None])


def test_an_encoder_without_maps_says_so_and_wrong_ones_are_told() -> None:
    class Wrong(Tiny):
        def _maps(self, x: Tensor) -> list[Tensor]:
            return [x, x.flatten(2)]

    images = to_float(picture(0))[None]
    for encoder in (Tiny(name="tiny"), model_zoo.load("image-stats", device="cpu")):
        with pytest.raises(NotImplementedError, match=f"'{encoder.name}' has no feature maps"):
            encoder.maps(images)
    with pytest.raises(ValueError, match=r"_maps gave shapes \[\(1, 3, 16, 16\), \(1, 3, 256\)\]"):
        Wrong(name="w").maps(images)
    with pytest.raises(ValueError, match="got values from"):
        Tiny(name="tiny").maps(images + 1)


def test_the_finest_of_one_stride_is_alone() -> None:
    stages = [torch.rand(1, 2, 8, 8) for _ in range(3)]
    assert torch.equal(side_by_side(stages, 128), stages[-1])


# ---- padding ------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from(["pillow", "opencv"]))
def test_the_extent_is_where_the_rule_puts_the_image(height: int, width: int, resizer) -> None:
    rule = InputRule(64, (0,) * 3, (1,) * 3, "bilinear", fit="pad", resizer=resizer)
    white = rule.apply(np.full((height, width, 3), 255, np.uint8))[0]
    down, right = rule.extent(height, width)
    assert white[: round(down * 64), : round(right * 64)].min() == 1
    assert white.sum() == round(down * 64) * round(right * 64)
    encoder = Tiny(name="tiny")
    assert encoder.extent(height, width) == (1, 1)
    encoder.input_rule = rule
    shown = encoder.shown(height, width, (8, 4))
    torch.testing.assert_close(shown, nn.functional.avg_pool2d(white[None], (8, 16))[0])


@given(st.integers(1, 200), st.integers(1, 200))
def test_the_extent_in_a_black_square(height: int, width: int) -> None:
    side = max(height, width)
    rule = InputRule(side, (0,) * 3, (1,) * 3, fit="square")
    white = rule.apply(np.full((height, width, 3), 255, np.uint8))[0]
    down, right, *begins = rule.extent(height, width)
    top, left = (round(part * side) for part in begins or (0, 0))
    assert white.sum() == height * width
    assert white[top : top + height, left : left + width].min() == 1
    assert (round(down * side), round(right * side)) == (height, width)
    encoder = Tiny(name="tiny")
    encoder.input_rule = rule
    torch.testing.assert_close(encoder.shown(height, width, (side, side)), white)


def test_the_share_of_a_padded_map() -> None:
    encoder = Tiny(name="tiny")
    encoder.input_rule = InputRule(1024, fit="pad")
    shown = encoder.shown(600, 1000, (64, 64))  # 614 of 1024 rows
    assert shown.shape == (64, 64)
    assert shown.dtype == torch.float32
    assert (shown[:38] == 1).all()
    assert (shown[39:] == 0).all()
    torch.testing.assert_close(shown[38], torch.full((64,), 614 / 16 - 38))
    assert model_zoo.load("image-stats", device="cpu").extent(600, 1000) == (1, 1)
