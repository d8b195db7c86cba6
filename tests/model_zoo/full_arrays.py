"""Every array of the full reference vectors, computed by our networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_zoo import echocare
from model_zoo.encoder import Encoder

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
    four = torch.cat([x[:, network.prefix :].mean(1) for x in after[-4:]], 1)
    last4 = pooled(encoder, images[:1], "last4")  # of which the network runs again
    torch.testing.assert_close(last4, four[:1], atol=1e-4, rtol=1e-5)
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
    # 28 and 14 places are not multiples of the windows' 8.
    smaller = torch.from_numpy(drawn.random((2, 3, 224, 224)).astype(np.float32))
    given["tokens_224"] = encoder._tokens(smaller)
    given["pooled_224"] = encoder.encode_prepared(smaller)
    return given
