"""Reference vectors: every wrapper gives the authors' numbers, and each check can fail."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from torch import Tensor, nn

import model_zoo
from model_zoo import dinov3, echocare, pooling, released, sam, samus, verify, vit, windows
from model_zoo.encoder import Encoder
from model_zoo.layouts import stacked
from ultrabench_eval.core.errors import UserError

RELEASED = [
    *("dinov3", "echocare", "ijepa", "ijepa-vitb16", "sam", "samus", "ultrasam", "urfm"),
    *("us-jepa", "usf-mae", "usfm", "usrc-jepa"),
]
CheckpointOf = Callable[..., Path]
EncoderOf = Callable[[str], Encoder]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointOf]:
    """Checkpoints in the released layouts; only the last is kept, for each is big."""
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
            kept[name] = model_zoo.load(name, checkpoint_of(name), "cpu", "float32")
        return kept[name]

    return loaded


def test_all_models_with_a_released_checkpoint_have_vectors() -> None:
    assert verify.names() == RELEASED
    for name in verify.names():
        assert model_zoo.card(name).status.startswith("verified by")
        assert model_zoo.card(name).verified_with
    with pytest.raises(UserError, match="no reference vectors for model 'pixels'; there are: dino"):
        verify.replay("pixels")


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
@pytest.mark.parametrize("name", RELEASED)
def test_the_numbers_of_the_authors_code(encoder_of: EncoderOf, name: str) -> None:
    if name in ("ijepa", "sam", "ultrasam") and SHARED.is_dir():
        pytest.skip("for its time: an excerpt of what is compared in full below")
    vectors = verify.read(name)
    results = verify.compare(encoder_of(name), vectors)
    assert {one.array for one in results} == set(vectors.expected)
    assert all(one.agrees for one in results), results


# ---- deliberate mistakes ------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch, Encoder], Any]


def attribute(target: Any, name: str, value: Any) -> Patch:
    return lambda patch, encoder: patch.setattr(target, name, value)


def eps(value: float) -> Patch:
    """Every LayerNorm of the network."""

    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        for module in encoder.network.modules():
            if isinstance(module, nn.LayerNorm):
                patch.setattr(module, "eps", value)

    return apply


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Patch:
    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        assert encoder.input_rule is not None
        wrong = dataclasses.replace(encoder.input_rule, mean=mean, std=std)
        patch.setattr(encoder, "input_rule", wrong)

    return apply


def numbers(name: str, edit: Callable[[Tensor], Tensor] = torch.zeros_like) -> Patch:
    """All parameters of the network whose name ends so are other numbers."""

    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        found = [one for key, one in encoder.network.named_parameters() if key.endswith(name)]
        assert found
        for parameter in found:
            patch.setattr(parameter, "data", edit(parameter.data))

    return apply


def without_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(sam, "_relative", lambda table, grid: torch.zeros(grid, grid, table.shape[1]))


def swapped_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    plain = sam._mix
    patch.setattr(sam, "_mix", lambda q, k, v, rows, columns: plain(q, k, v, columns, rows))


def merged_by_rows(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """TL, TR, BL, BR instead of TL, BL, TR, BR."""

    def forward(self: echocare.Merging, x: Tensor) -> Tensor:
        four = [x[:, down::2, right::2] for down in (0, 1) for right in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))

    patch.setattr(echocare.Merging, "forward", forward)


def unshifted(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    for module in encoder.network.modules():
        if isinstance(module, echocare.SwinBlock):
            patch.setattr(module, "shift", 0)


def resized_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """SAMUS' position table brought to its grid by interpolation instead of the learnt layer."""
    plain = samus.CNN.forward

    def forward(self: samus.CNN, x: Tensor) -> Tensor:
        if isinstance(self.inc, nn.Identity):
            return nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
        return plain(self, x)

    patch.setattr(samus.CNN, "forward", forward)


def without_input_adapter(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(encoder.network.input_Adapter, "forward", torch.zeros_like)


def unbiased(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """USFM without its positions."""
    plain = vit.Block.forward
    patch.setattr(vit.Block, "forward", lambda self, x, bias=None, rotate=None: plain(self, x))


def unscaled(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """USFM without its layer scale."""

    def forward(self: vit.Block, x: Tensor, bias: Any = None, rotate: Any = None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias, rotate)
        return x + self.mlp(self.norm2(x))

    patch.setattr(vit.Block, "forward", forward)


def with_registers(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(dinov3.DINOv3, "_prefix", 1)


def scaled_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Relative positions of the scaled query."""
    plain = sam._mix
    patch.setattr(sam, "_mix", lambda q, k, v, rows, columns: plain(q, k, v, rows / 8, columns / 8))


def padded_before_norm(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Windows filled up with what a norm makes of zeros, its bias."""

    def attend(self: sam.Block, x: Tensor) -> Tensor:
        if self.is_global:
            return self.attn(x)
        cut = windows.cut(x, sam.WINDOW)
        filled = (cut == 0).all(-1, keepdim=True)
        cut = torch.where(filled, self.norm1.bias, cut)
        return windows.join(self.attn(cut), *x.shape[1:3])

    patch.setattr(sam.Block, "attend", attend)


def refined_first(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """SAMUS' cross attention asks the CNN's map after it is refined in that block."""

    def meet(self: samus.GlobalBlock, x: Tensor, cnn: Tensor) -> tuple[Tensor, Tensor]:
        cnn = self.refine_Adapter(cnn.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        normed = self.norm1(x)
        x = x + self.attend(normed + self.Space_Adapter(normed, cnn))
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.MLP_Adapter(normed), cnn

    patch.setattr(samus.GlobalBlock, "meet", meet)


def recomputed(table: Tensor) -> Tensor:
    """The sine-cosine table in the place of the stored one."""
    prefix = table.shape[1] % 2
    fresh = vit.sine_cosine_table(math.isqrt(table.shape[1]), table.shape[2])
    return torch.cat([torch.zeros(prefix, table.shape[2]), fresh])[None]


def transposed(table: Tensor) -> Tensor:
    """USFM's table with its two axes swapped."""
    inner = table[:-3].view(27, 27, -1).transpose(0, 1).reshape(729, -1)
    return torch.cat([inner, table[-3:]])


def without_class_rows(table: Tensor) -> Tensor:
    return torch.cat([table[:-3], torch.zeros_like(table[-3:])])


def not_on_the_class_token(table: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table[:, :1]), table[:, 1:]], dim=1)


def unseparated(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Places that a shift brought into one window see each other."""
    patch.setattr(echocare, "shifted_apart", lambda h, w, shift: torch.zeros(h * w // 64, 64, 64))


CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NONE = (0.0,) * 3, (1.0,) * 3
HALF = (0.5,) * 3, (0.5,) * 3
SAMS = sam.MEAN, sam.STD

# As the READMEs of the reference vectors list them, and some more.
MISTAKES: dict[str, tuple[str, Patch]] = {
    "usf-mae: eps": ("usf-mae", eps(1e-5)),
    "usf-mae: mean and std 0.5": ("usf-mae", normalised(*HALF)),
    "usf-mae: CLIP's mean and std": ("usf-mae", normalised(*CLIP)),
    "usf-mae: no mean and std": ("usf-mae", normalised(*NONE)),
    "usf-mae: positions zero": (
        "usf-mae", numbers("pos_embed", torch.zeros_like),
    ),
    "usf-mae: class token without position": (
        "usf-mae", numbers("pos_embed", not_on_the_class_token),
    ),
    "usf-mae: positions recomputed": (
        "usf-mae", numbers("pos_embed", recomputed),
    ),
    "usf-mae: no biases": ("usf-mae", numbers("qkv.bias")),
    "usf-mae: no final norm": (
        "usf-mae", attribute(released.ViTEncoder, "_normed", lambda self, tokens: tokens),
    ),
    "usf-mae: class token in the mean": (
        "usf-mae",
        lambda patch, encoder: patch.setitem(pooling.POOLINGS, "mean", lambda x, prefix: x.mean(1)),
    ),
    "urfm: CLIP's mean and std": ("urfm", normalised(*CLIP)),
    "usfm: eps": ("usfm", eps(1e-5)),
    "usfm: no positions": ("usfm", unbiased),
    "usfm: table transposed": ("usfm", numbers("bias_table", transposed)),
    "usfm: table without the class token's rows": (
        "usfm", numbers("bias_table", without_class_rows),
    ),
    "usfm: no layer scale": ("usfm", unscaled),
    "usfm: no biases": ("usfm", numbers("qkv.bias")),
    "usfm: mean and std 0.5": ("usfm", normalised(*HALF)),
    "dinov3: eps": ("dinov3", eps(1e-6)),
    "dinov3: registers pooled": ("dinov3", with_registers),
    "dinov3: no biases": ("dinov3", numbers("qkv.bias")),
    "dinov3: no rotation": ("dinov3", attribute(dinov3.Rotation, "__call__", lambda self, x: x)),
    "dinov3: periods 5 % too long": (
        "dinov3", attribute(dinov3, "_PERIODS", dinov3._PERIODS * 1.05),
    ),
    "ijepa-vitb16: eps": ("ijepa-vitb16", eps(1e-5)),
    "ijepa-vitb16: mean and std of the hub": ("ijepa-vitb16", normalised(*HALF)),
    "ijepa-vitb16: positions recomputed": (
        "ijepa-vitb16", numbers("pos_embed", recomputed),
    ),
    "samus: mean and std": ("samus", normalised(*SAMS)),
    "samus: eps": ("samus", eps(1e-5)),
    "samus: adapter scale": ("samus", attribute(samus, "_SCALE", 1.0)),
    "samus: input adapter": ("samus", without_input_adapter),
    "samus: positions resized": ("samus", resized_positions),
    "samus: CNN refined first": ("samus", refined_first),
    # SAM and UltraSam are made of the same blocks, at 16 times the cost.
    "samus: no relative positions": ("samus", without_positions),
    "samus: rows and columns": ("samus", swapped_positions),
    "samus: positions of the scaled query": ("samus", scaled_positions),
    "samus: windows filled up before the norm": ("samus", padded_before_norm),
    "echocare: no relative positions": ("echocare", numbers("bias_table")),
    "echocare: merging": ("echocare", merged_by_rows),
    "echocare: no shift": ("echocare", unshifted),
    "echocare: shifted windows not kept apart": ("echocare", unseparated),
    "echocare: residual blocks": (
        "echocare", attribute(echocare.Residual, "forward", lambda self, x: x),
    ),
    "echocare: last norm": ("echocare", attribute(echocare, "normed", lambda x: x)),
    "echocare: mean and std": ("echocare", normalised(*IMAGENET)),
}  # fmt: skip


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
    encoder = model_zoo.registry.get(name)(name=name, weights=checkpoint_of(name))
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
    folders = {"us-jepa": "ijepa-vitb16", "usrc-jepa": "ijepa-vitb16"}
    for name in verify.names():
        full = np.load(shared / "conformance" / folders.get(name, name) / "expected.npz")
        for array, values in verify.read(name).expected.items():
            whole = full[array].reshape(-1, full[array].shape[-1])
            for row in values.reshape(-1, values.shape[-1]).numpy():
                assert (whole == row).all(axis=1).any(), (name, array)


# Of the input, of the rule, and of I-JEPA's predictor, which is no part of an encoder.
NOT_OUTPUTS = {
    *("input_seed", "input_size", "batch", "input_head", "input_head_224", "normalised_head"),
    *("token_index", "grid_rows", "grid_cols", "context_index", "rope_periods", "fill_scale"),
    *("target_index", "predicted", "smooth_l1_to_layernormed_own_output"),
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in RELEASED if name not in ("us-jepa", "usrc-jepa")]
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
        raw = model_zoo.load(name, f"{checkpoint_of(name)}#state_dict", "cpu", "float32")
        given["pooled_mean_raw_weights"] = raw.encode(images)
    assert set(given) == set(full) - NOT_OUTPUTS
    for array, values in given.items():
        # Before a norm, values are larger: relative to them.
        torch.testing.assert_close(
            values.cpu(), full[array], atol=1e-4, rtol=1e-5, msg=lambda m, a=array: f"{a}: {m}"
        )


@contextmanager
def block_inputs(encoder: Encoder) -> Iterator[list[Tensor]]:
    """What each block is given, in order, while the network runs."""
    seen: list[Tensor] = []
    hooks = [
        block.norm1.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        for block in getattr(encoder.network, "blocks", [])
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def pooled(encoder: Encoder, images: Tensor, how: str) -> Tensor:
    encoder.pooling = how
    return encoder.encode(images)


def vit_arrays(
    encoder: Encoder, images: Tensor, full: dict[str, Tensor], inputs: list[Tensor]
) -> dict[str, Tensor]:
    tokens = encoder.tokens(images)
    network: Any = encoder.network
    last = network.unnormed(torch.stack([encoder.prepare(image) for image in images]))
    after = [*inputs[1:], last]
    given = {"block_mean": torch.stack([x.mean(1) for x in after], 1)}
    if "register_tokens" in full:
        given |= {
            "patch_tokens": tokens,
            "cls_token": pooled(encoder, images, "cls"),
            "register_tokens": network.norm(last)[:, 1:5],
            "pooled_patch_mean": pooled(encoder, images, "mean"),
        }
    elif "context_index" in full:
        x = torch.stack([encoder.prepare(image) for image in images])
        given |= {
            "patch_tokens": tokens[:, full["token_index"]],
            "pooled_mean": pooled(encoder, images, "mean"),
            "context_tokens_mean": network(x, keep=full["context_index"]).mean(1),
        }
        four = pooled(encoder, images, "last4")
        torch.testing.assert_close(four, full["block_mean"][:, -4:].flatten(1), atol=1e-4, rtol=0)
    else:
        before = pooled(encoder, images, "mean_prenorm")
        given |= {
            "tokens": tokens,
            "cls": pooled(encoder, images, "cls"),
            "block1_tokens": after[0][:, [0, 1, 2, 15, 100, 196]],
            "pooled_mean": pooled(encoder, images, "mean"),
            "pooled_mean_prenorm": before,
            "pooled_fc_norm_init": nn.functional.layer_norm(before, (768,), eps=1e-6),
        }
    return given


def sam_arrays(
    encoder: Encoder, images: Tensor, full: dict[str, Tensor], inputs: list[Tensor]
) -> dict[str, Tensor]:
    if encoder.name == "samus":
        encoder.pooling = "neck"
        side = (encoder.input_size or 0) // 8
        grey = encoder.tokens(images).unflatten(1, (side, side))
        given = {
            "gray_neck_tokens": grey[:1, ::4, ::4],
            "gray_pooled_neck": pooled(encoder, images, "neck"),
            "gray_pooled_preneck": pooled(encoder, images, "preneck"),
        }
        drawn = np.random.Generator(np.random.PCG64(int(full["input_seed"])))
        x = torch.from_numpy(drawn.random((2, 3, 256, 256)).astype(np.float32))
        inputs.clear()
    else:
        given, x = {}, torch.stack([encoder.prepare(image) for image in images])
    rows, columns = full["grid_rows"][:, None], full["grid_cols"]
    network: Any = encoder.network
    streams = []
    hooks = []
    if encoder.name == "samus":
        for part in (network.cnn_embed, *(network.blocks[i].refine_Adapter for i in (2, 5, 8, 11))):
            hooks.append(
                part.register_forward_hook(
                    lambda module, args, out: streams.append(out.mean((2, 3)))
                )
            )
    preneck = network.preneck(x)
    for hook in hooks:
        hook.remove()
    after = [one.mean((1, 2)) for one in inputs[1:12]]
    after.append(preneck.mean((1, 2)) - (0.5 * streams[-1] if streams else 0))
    if streams:
        given["cnn_mean"] = torch.stack([streams[(i + 1) // 3] for i in range(12)], 1)
    for stage in ("preneck", "neck"):
        encoder.pooling = stage
        tokens = encoder._tokens(x).unflatten(1, preneck.shape[1:3])[:, rows, columns]
        given[f"{stage}_tokens"] = tokens[: len(full[f"{stage}_tokens"])]
        given[f"pooled_{stage}"] = encoder.encode_prepared(x)
    return given | {"block_mean": torch.stack(after, 1)}


def echocare_arrays(encoder: Encoder, images: Tensor, full: dict[str, Tensor]) -> dict[str, Tensor]:
    network: Any = encoder.network
    given = {
        "tokens": encoder.tokens(images),
        "pooled": pooled(encoder, images, "mean"),
        "pooled_unnormalised": pooled(encoder, images, "mean_prenorm"),
    }
    for level, values in enumerate(network.levels(images)):
        given[f"level{level}_mean"] = echocare.normed(values).mean((1, 2))
        if level in (1, 2, 3):
            step = values.shape[1] // 4
            given[f"level{level}_grid"] = echocare.normed(values)[:1, ::step, ::step]
    encoder.pooling = "mean"
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in IMAGENET)
    given["pooled_imagenet_mean_std"] = encoder.encode_prepared((images - mean) / std)
    drawn = np.random.Generator(np.random.PCG64(int(full["input_seed"])))
    # 28 and 14 places are no multiples of the windows' 8.
    smaller = torch.from_numpy(drawn.random((2, 3, 224, 224)).astype(np.float32))
    given["tokens_224"] = encoder._tokens(smaller)
    given["pooled_224"] = encoder.encode_prepared(smaller)
    return given


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_the_second_vectors(checkpoint_of: CheckpointOf, name: str) -> None:
    vectors = verify.read(name, second=True)
    encoder = model_zoo.registry.get(name)(name=name, weights=checkpoint_of(name, second=True))
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
