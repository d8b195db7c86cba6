"""Make the excerpts of the encoders of clips, with what usual mistakes give where that is known.

    python tests/model_zoo/excerpt_clips.py ../shared/conformance

As `excerpt_named.py`, which see.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from excerpt import EMPTY, HERE, PLACES, WHOLE
from excerpt_named import MAX255, NONE, NUMBERS

OFFICIAL = {"encoder": EMPTY, "target_encoder": WHOLE}
BESIDE = {"predictor": {}, "opt": {}, "scaler": None, "epoch": 300, "loss": 0.5, "lr": 1e-6}

MODELS: dict[str, dict[str, Any]] = {
    "vjepa-vitb16": {
        "folder": "vjepa-vitb16-112px",
        "pooled": {"mean": "pooled_mean"},
        "parts": OFFICIAL,
        "beside": BESIDE,
        "channels_first": True,
        "tolerance": 1e-5,
    },
    "vjepa-vitl16": {
        "pooled": {"mean": "pooled_mean"},
        "parts": OFFICIAL,
        "beside": BESIDE,
        "channels_first": True,
        "tolerance": 2e-5,
    },
    "vjepa2-vitl": {
        "pooled": {"mean": "pooled_mean"},
        "parts": OFFICIAL,
        "beside": BESIDE,
        "channels_first": True,
        "tolerance": 2e-5,
    },
    "echoprime": {
        "pooled": {"projected": "embed", "cls": "cls", "mean": "pooled_mean"},
        "parts": {"": WHOLE},
    },
    "echofm": {
        "pooled": {"mean": "pooled_mean", "cls": "cls"},
        "parts": {"model": {**WHOLE, "unread": ["decoder*", "prj_norm.*", "mask_token"]}},
        "beside": {"model_args": {"num_frames": 32, "t_patch_size": 4, "pred_t_dim": 8,
                                  "sep_pos_embed": True, "cls_embed": True,
                                  "norm_pix_loss": True}},
    },
    "panecho-clip": {
        "folder": "panecho",
        "pooled": {"default": "clip_pooled"},
        "tokens": ("clip_frames", "clip_frame_index"),
        "parts": {"weights": {**WHOLE, "unread": ["*_head.*", "encoder.time_encoder.pe"]}},
        "beside": {"optimizer": {}},
        "seed": "clip_seed",
        "frames": 16,
        "mistakes": "wrong_clip_",
    },
}  # fmt: skip

SENTENCES = {
    "0_to_1_same_mean_std": "Values from 0 to 1 are normalised by a mean and std of values from 0 "
    "to 255: multiply them by 255 first, or divide mean and std by 255.",
    "0_to_1_same_mean_std_cls": "Values from 0 to 1 are normalised by a mean and std of values "
    "from 0 to 255: multiply them by 255 first, or divide mean and std by 255.",
    "imagenet_mean_std": "ImageNet's mean and std are used: this model has {mean}.",
    "0_to_255_not_normalised": "Values from 0 to 255 reach the network: normalise them.",
    "0_to_1_not_normalised": NONE,
    "bgr_before": "Red and blue are exchanged: give the channels as red, green, blue.",
    "bgr_after": "Red and blue are exchanged after the normalisation: give the channels as red, "
    "green, blue.",
    "head_of_mean": "The head is put on the mean of the patch tokens: it belongs on the class "
    "token.",
    "head_of_first_patch": "The head is put on the first patch token: it belongs on the class "
    "token, which stands before it.",
    "head_without_norm": "The norm before the head is left out.",
    "cls_without_norm": "The final norm is left out.",
    "mean_without_norm": "The final norm is left out.",
    "mean_with_cls": "The class token is part of the mean over patch tokens: leave the first "
    "place out.",
    "max": "The maximum over the tokens is given: it is their mean.",
    "first_token": "One patch token is given: it is the mean over all.",
    "half_the_heads": "The network has 8 attention heads; EchoFM has 16 of 64 channels. The file "
    "fits both: make the network with 16 heads.",
    "not_normalised": NONE,
    "bgr": "Red and blue are exchanged after the normalisation: give the channels as red, green, "
    "blue.",
    "0_to_255_normalised": MAX255,
    "frames_not_mixed": "Frames go through the image encoder one by one. The authors' code, which "
    "the weights were trained with, reads the memory of [3, T, S, S] as [T, 3, S, S]: keep that.",
    "mean_of_frame_features": "The mean of the frames' features is given: the frame transformer "
    "is left out.",
    "mean_of_mixed_frame_features": "The frame transformer is left out.",
    "no_time_encoding": "The time encoding is not added to the frames' features.",
    "time_encoding_sines_then_cosines": "The time encoding has sines first and cosines after them: "
    "they alternate.",
    "time_encoding_filled": "The time encoding is taken from a file that holds other numbers.",
    "12_heads": "The frame transformer has 12 heads; it has 8. The file fits both.",
    "gelu": "The frame transformer has GELU: it has ReLU.",
    "norm_first": "The frame transformer normalises before its layers: it does so after them.",
    "frames_reversed": "The frames come in reverse order.",
    "alt_bgr": "The channels are blue, green, red, as the authors' video loader gives them; they "
    "are red, green, blue here. For grey videos it makes no difference.",
}
MEANS = {
    "echoprime": "its own, of values from 0 to 255,",
    "echofm": "none",
    "panecho-clip": "ImageNet's",
}
# Too near to the right numbers to be told.
UNTOLD = ("wrong_mean_with_cls",)


def main(source: Path) -> None:
    for model, wanted in MODELS.items():
        described, arrays = excerpt(model, source / wanted.get("folder", model), wanted)
        np.savez_compressed(HERE / f"{model}.npz", **arrays)
        lines = ",\n".join(json.dumps(key) for key in described.pop("keys"))
        head = json.dumps(described, indent=1)[:-2]
        (HERE / f"{model}.json").write_text(f'{head},\n "keys": [\n{lines}\n ]\n}}\n')


def excerpt(
    model: str, folder: Path, wanted: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    expected = np.load(folder / "expected.npz")
    listed = json.loads((folder / "keys.json").read_text())
    pooled, scale = wanted["pooled"], float(expected["fill_scale"])
    arrays = {array: expected[array] for array in pooled.values()}
    least = min(float(np.abs(values).max()) for values in arrays.values())
    outputs = [
        {"array": array, "of": "features", "pooling": pooling} for pooling, array in pooled.items()
    ]
    array, index = wanted.get("tokens", ("tokens", "token_index"))
    step = max(1, len(expected[index]) // PLACES)
    places = [int(place) for place in expected[index][::step][:PLACES]]
    arrays[array] = expected[array][:1, ::step][:, :PLACES]
    outputs.append(
        {"array": array, "of": "tokens", "pooling": next(iter(pooled)), "places": places}
    )
    mistakes, numbers = mistakes_of(model, expected, pooled, wanted.get("mistakes", "wrong_"))
    if mistakes:
        arrays["mistakes"] = np.stack(numbers)
    described = {
        "input": {
            "seed": int(expected[wanted.get("seed", "input_seed")]),
            "size": int(expected["input_size"]),
            "batch": len(next(iter(arrays.values()))),
            "frames": wanted.get("frames") or int(expected["frames"]),
            **({"channels_first": True} if wanted.get("channels_first") else {}),
            "grey": False,
            "prepared": False,
        },
        "parts": {
            entry: {**part, **({} if round(scale, 4) == 0.02 else {"scale": round(scale, 4)})}
            for entry, part in wanted["parts"].items()
        },
        "beside": wanted.get("beside", {}),
        "old_format": False,
        "tolerance": wanted.get("tolerance", float(f"{9.9e-5 * least:.1e}")),
        "outputs": outputs,
        "mistakes": mistakes,
        "keys": [[one["key"], one["shape"]] for one in
                 listed.get("target_encoder_keys") or listed["keys"]],
    }  # fmt: skip
    return described, arrays


def mistakes_of(
    model: str, expected: Any, pooled: dict[str, str], start: str
) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    """What each mistake is called, which array it belongs to, and its first numbers."""
    found, numbers = [], []
    for array in expected:
        if array == "alt_bgr_clip_pooled" and start == "wrong_clip_":
            name = "alt_bgr"
        elif array.startswith(start) and array not in UNTOLD:
            name = array.removeprefix(start)
        else:
            continue
        of = next(iter(pooled.values()))
        if (name.endswith("_mean") and name not in SENTENCES) or name == "mean_without_norm":
            name, of = name.removesuffix("_mean"), "pooled_mean"
        elif name.endswith("_cls") or name == "cls_without_norm":
            of = "cls"
        values = expected[array][0]
        if len(values) != expected[of].shape[1] or name not in SENTENCES:
            print(f"left out: {model} {array}")
            continue
        sentence = SENTENCES[name].format(mean=MEANS[model])
        found.append({"name": name, "of": of, "sentence": sentence})
        numbers.append(values[:NUMBERS])
    return found, numbers


if __name__ == "__main__":
    main(Path(sys.argv[1]))
