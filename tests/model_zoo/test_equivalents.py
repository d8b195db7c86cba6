"""A second proof: inputs of our own, against independent implementations of the same networks.

Other weights than the reference vectors', other images, and images of other sizes and shapes, so
preprocessing counts as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from torch import Tensor
from torchvision.transforms import v2

import model_zoo
from model_zoo import sam, verify
from model_zoo.transforms import InputRule, to_float

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow")]
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def scrambled(network: torch.nn.Module, seed: int = 7) -> dict[str, Tensor]:
    """A state dict in which no parameter has its starting value; norms stay near one."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            offset = (
                1.0 if value.ndim == 1 and key.endswith(("weight", "gamma_1", "gamma_2")) else 0
            )
            value = offset + (0.1 if offset else 0.03) * noise
        tensors[key] = value
    network.load_state_dict(tensors)
    network.eval()
    return tensors


def photograph(height: int = 301, width: int = 420) -> np.ndarray:
    """Smooth shapes and speckle, uint8 [H, W, 3], three different planes."""
    generator = np.random.default_rng(11)
    coarse = PIL.Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), PIL.Image.Resampling.BICUBIC))
    return (smooth * generator.uniform(0.5, 1, (height, width, 1))).astype(np.uint8)


def resized(image: np.ndarray, size: int, how: PIL.Image.Resampling) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).resize((size, size), how)) / np.float32(255)


def normal(pixels: np.ndarray, mean: Any, std: Any) -> Tensor:
    values = (pixels - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.astype(np.float32).transpose(2, 0, 1))[None]


NONE = (0.0,) * 3, (1.0,) * 3
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGE = photograph()
BATCH = to_float(IMAGE)[None]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("usf-mae", PIL.Image.Resampling.NEAREST),
        ("urfm", PIL.Image.Resampling.BICUBIC),
    ],
)
def test_mae_encoders_are_timms_vit(tmp_path: Path, name: str, how: PIL.Image.Resampling) -> None:
    reference = timm.create_model("vit_base_patch16_224", num_classes=0, depth=2)
    tensors = scrambled(reference)
    width = {"usf-mae": 512, "urfm": 768}[name]
    decoder = {"mask_token": torch.ones(1, 1, width)}
    decoder["decoder_embed.weight"] = torch.ones(width, 768)
    torch.save(tensors | decoder, tmp_path / "w.pth")
    encoder = model_zoo.load(name, tmp_path / "w.pth", "cpu", "float32")
    with torch.inference_mode():
        expected = reference.forward_features(normal(resized(IMAGE, 224, how), *IMAGENET))
    torch.testing.assert_close(encoder.tokens(BATCH), expected[:, 1:], **CLOSE)
    torch.testing.assert_close(encoder.encode(BATCH), expected[:, 1:].mean(1), **CLOSE)
    encoder.pooling = "cls+mean"
    both = torch.cat([expected[:, 0], expected[:, 1:].mean(1)], dim=1)
    torch.testing.assert_close(encoder.encode(BATCH), both, **CLOSE)


def test_usfm_is_timms_beit_with_a_shared_table(tmp_path: Path) -> None:
    reference = timm.create_model(
        "beit_base_patch16_224",
        depth=2,
        num_classes=0,
        use_shared_rel_pos_bias=True,
        use_rel_pos_bias=False,
        global_pool="token",
    )
    tensors = scrambled(reference)
    leftovers = {"mask_token": torch.zeros(1, 1, 768)}
    index = reference.rel_pos_bias.relative_position_index
    leftovers["rel_pos_bias.relative_position_index"] = index
    torch.save(tensors | leftovers, tmp_path / "w.pth")
    encoder = model_zoo.load("usfm", tmp_path / "w.pth", "cpu", "float32")
    pixels = resized(IMAGE, 224, PIL.Image.Resampling.BICUBIC)
    with torch.inference_mode():
        expected = reference.forward_features(normal(pixels, *IMAGENET))
    torch.testing.assert_close(encoder.tokens(BATCH), expected[:, 1:], **CLOSE)


def test_dinov3_is_the_one_of_transformers(tmp_path: Path) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        patch_size=16, hidden_size=768, intermediate_size=3072, num_hidden_layers=2,
        num_attention_heads=12, layer_norm_eps=1e-5, num_register_tokens=4, key_bias=False,
    )  # fmt: skip
    reference = DINOv3ViTModel(config)
    scrambled(reference)
    reference.save_pretrained(tmp_path)  # the hub's own names and container
    encoder = model_zoo.load("dinov3", tmp_path / "model.safetensors", "cpu", "float32")
    assert encoder.filled is not None  # type: ignore[attr-defined]
    planes = v2.Resize((224, 224), antialias=True)(torch.from_numpy(IMAGE.transpose(2, 0, 1)))
    pixels = planes.permute(1, 2, 0).numpy() / np.float32(255)
    with torch.inference_mode():
        expected = reference(normal(pixels, *IMAGENET))
    torch.testing.assert_close(encoder.encode(BATCH), expected.pooler_output, **CLOSE)
    tokens = expected.last_hidden_state[:, 5:]
    torch.testing.assert_close(encoder.tokens(BATCH), tokens, **CLOSE)


def test_ijepa_is_the_one_of_transformers(tmp_path: Path) -> None:
    from transformers import IJepaConfig, IJepaModel

    config = IJepaConfig(
        hidden_size=768, num_hidden_layers=2, num_attention_heads=12, intermediate_size=3072,
        image_size=224, patch_size=16, layer_norm_eps=1e-6,
    )  # fmt: skip
    reference = IJepaModel(config, add_pooling_layer=False)
    scrambled(reference)
    reference.save_pretrained(tmp_path)
    encoder = model_zoo.load("ijepa-vitb16", tmp_path / "model.safetensors", "cpu", "float32")
    pixels = resized(IMAGE, 224, PIL.Image.Resampling.BILINEAR)
    with torch.inference_mode():
        expected = reference(normal(pixels, *IMAGENET)).last_hidden_state
    torch.testing.assert_close(encoder.tokens(BATCH), expected, **CLOSE)
    torch.testing.assert_close(encoder.encode(BATCH), expected.mean(1), **CLOSE)


def test_biomedclip_is_open_clips_tower(tmp_path: Path) -> None:
    from open_clip.timm_model import TimmModel

    reference = TimmModel(
        "vit_base_patch16_224", embed_dim=512, image_size=224, pool="", proj="linear",
        pretrained=False,
    )  # fmt: skip
    reference.trunk.blocks = reference.trunk.blocks[:2]
    tensors = {f"visual.{key}": value for key, value in scrambled(reference).items()}
    text = {"text.proj.0.weight": torch.ones(2, 2), "logit_scale": torch.tensor(4.0)}
    torch.save(tensors | text, tmp_path / "w.bin")
    encoder = model_zoo.load("biomedclip", tmp_path / "w.bin", "cpu", "float32")
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels = normal(resized(IMAGE, 224, PIL.Image.Resampling.BICUBIC), mean, std)
    with torch.inference_mode():
        projected = reference(pixels)
        trunk = reference.trunk.forward_features(pixels)
    projected = projected[:, 0] if projected.ndim == 3 else projected
    torch.testing.assert_close(encoder.encode(BATCH), projected, **CLOSE)
    torch.testing.assert_close(encoder.tokens(BATCH), trunk[:, 1:], **CLOSE)


def test_sam_is_segment_anything_from_bytes_to_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half the size, where windows must be filled up too, and with the first three blocks."""
    from segment_anything.modeling import ImageEncoderViT, Sam
    from segment_anything.utils.transforms import ResizeLongestSide

    encoder_of_theirs = ImageEncoderViT(
        img_size=512, patch_size=16, depth=3, embed_dim=768, num_heads=12, mlp_ratio=4,
        qkv_bias=True, use_rel_pos=True, global_attn_indexes=[2], window_size=14, out_chans=256,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    reference = Sam(encoder_of_theirs, torch.nn.Identity(), torch.nn.Identity())
    tensors = scrambled(reference.image_encoder)
    whole = {f"image_encoder.{key}": value for key, value in tensors.items()}
    torch.save(whole | {"mask_decoder.iou_token.weight": torch.ones(1, 256)}, tmp_path / "w.pth")
    monkeypatch.setattr(sam, "DEPTH", 3)
    monkeypatch.setattr(sam.SAMNetwork, "grid", 32)
    monkeypatch.setattr(sam.SAM, "input_rule", dataclasses.replace(sam.SAM.input_rule, size=512))
    encoder = model_zoo.load("sam", tmp_path / "w.pth", "cpu", "float32", pooling="neck")
    tall = photograph(420, 301)
    scaled = ResizeLongestSide(512).apply_image(tall)
    assert scaled.shape == (512, 367, 3)
    pixels = reference.preprocess(torch.from_numpy(scaled.transpose(2, 0, 1).copy())[None])
    torch.testing.assert_close(encoder.prepare(tall)[None], pixels, atol=1e-5, rtol=1e-6)
    with torch.inference_mode():
        expected = reference.image_encoder(pixels)
    with verify.one_pass(encoder):
        tokens = encoder.tokens(to_float(tall)[None])
        features = encoder.encode(to_float(tall)[None])
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), **CLOSE)
    # 367 of 512 columns are the image: 23 of 32 places a row.
    torch.testing.assert_close(features, expected[..., :23].mean((2, 3)), **CLOSE)


def test_the_paddings_of_sam_and_ultrasam_are_their_own() -> None:
    wide = photograph(100, 400)
    zeros = torch.zeros(3, 1024 - 256, 1024)
    sams = model_zoo.registry.get("sam").input_rule.apply(wide)
    assert torch.equal(sams[:, 256:], zeros)
    assert (sams[:, :256] != 0).all()  # no 8-bit value is zero after the normalisation
    ultrasams = model_zoo.registry.get("ultrasam").input_rule.apply(wide)
    black = -torch.tensor(sam.MEAN) / torch.tensor(sam.STD)
    torch.testing.assert_close(ultrasams[:, 256:], black.view(3, 1, 1) + zeros)
    # mmdet cuts sides: 239 * (1024 / 239) is 1023.9999..., and SAM rounds them.
    white = np.full((239, 176, 3), 255, np.uint8)
    for name, rows in (("sam", 1024), ("ultrasam", 1023)):
        pixels = model_zoo.registry.get(name).input_rule.apply(white)[0]
        assert (pixels > 1).sum(0).max() == rows


def test_resizing_as_opencv_is_bilinear_between_pixel_centres() -> None:
    rule = InputRule(2, (0.0,) * 3, (1.0,) * 3, "bilinear", resizer="opencv")
    ramp = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10, 8, axis=0).repeat(3, axis=2)
    # Centres of two halves lie at 1.5 and 5.5: no other pixel than their two neighbours counts.
    assert (rule.apply(ramp)[0, 0] * 255).round().tolist() == [15.0, 55.0]
    # What OpenCV 5.0 gives, cv2.resize(image, (64, 64)).
    image = np.random.default_rng(4).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    given = (InputRule(64, *NONE, "bilinear", resizer="opencv").apply(image) * 255).round()
    assert hashlib.sha256(given.byte().numpy().tobytes()).hexdigest()[:16] == "660260f009831902"


def test_resizing_as_torchvision_on_tensors() -> None:
    resize = v2.Resize((224, 224), antialias=True)
    for shape in ((239, 176), (60, 60), (576, 768)):
        image = photograph(*shape)
        given = InputRule(224, *NONE, "bilinear", resizer="torchvision").apply(image)
        wanted = resize(torch.from_numpy(image.transpose(2, 0, 1).copy()))
        assert (given * 255 - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("size", [224, 256])
def test_echocare_is_monais_swin(tmp_path: Path, size: int) -> None:
    pytest.importorskip("monai", reason="MONAI, an independent implementation, is not installed")
    from monai.networks.nets.swin_unetr import SwinTransformer

    reference = SwinTransformer(
        in_chans=3, embed_dim=128, window_size=[8, 8], patch_size=[2, 2], depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32], mlp_ratio=4.0, qkv_bias=True, spatial_dims=2, use_v2=True,
    )  # fmt: skip
    tensors = scrambled(reference)
    torch.save(tensors | {"mask_token": torch.ones(1)}, tmp_path / "w.pth")
    encoder = model_zoo.load("echocare", tmp_path / "w.pth", "cpu", "float32")
    pixels = resized(IMAGE, size, PIL.Image.Resampling.BILINEAR)
    images = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        expected = reference(images)[-1].mean((2, 3))
    torch.testing.assert_close(encoder.encode_prepared(images), expected, atol=1e-4, rtol=1e-4)
    if size == 256:
        torch.testing.assert_close(encoder.encode(BATCH), expected, atol=1e-4, rtol=1e-4)
