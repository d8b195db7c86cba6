"""Make the excerpts of the models whose vectors hold what usual mistakes give.

    python tests/model_zoo/excerpt_named.py ../shared/conformance

As `excerpt.py`, with the first numbers of each mistake's feature of the first image, and a sentence
that says what the mistake is and how to correct it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from excerpt import HERE, VIT, WHOLE

NUMBERS = 64  # of a mistake's feature that are kept

CLIP_TEXT = ["positional_embedding", "text_projection", "logit_scale", "token_embedding.*",
             "transformer.*", "ln_final.*"]  # fmt: skip

MODELS: dict[str, dict[str, Any]] = {
    "tinyusfm": {
        "pooled": VIT,
        "parts": {"": WHOLE},
        "mean": "ImageNet's",
    },
    "ultrafedfm": {
        "pooled": VIT,
        "parts": {"model": {**WHOLE, "unread": ["mask_token", "decoder_*"]}},
        "beside": {"epoch": 799, "optimizer": {}, "scaler": {}},
        "mean": "ImageNet's",
    },
    "fetalclip": {
        "pooled": {"projected": "embed", "mean": "pooled_mean", "cls": "cls",
                   "mean_prenorm": "pooled_mean_prenorm"},
        "parts": {"state_dict": {**WHOLE, "prefix": "module.", "unread": CLIP_TEXT}},
        "beside": {"epoch": 20},
        "mean": "CLIP's",
    },
    "panecho": {
        "pooled": {"default": "pooled"},
        "parts": {"weights": {**WHOLE, "unread": ["*_head.*", "encoder.t*"]}},
        "beside": {"optimizer": {}},
        "mean": "ImageNet's",
    },
    "echoclip": {
        "pooled": {"projected": "embed", "pooled": "pooled", "mean": "pooled_mean"},
        "parts": {"": {**WHOLE, "unread": CLIP_TEXT}},
        "mean": "CLIP's",
    },
    "mobile-fetalclip": {
        "pooled": {"projected": "embed", "mean": "pooled_mean"},
        "parts": {"state_dict": {**WHOLE, "unread": ["text.*", "logit_scale"]}},
        "beside": {"epoch": 20, "optimizer": {}, "scheduler": {}, "global_step": 1},
        "mean": "ImageNet's",
        "size": 256,
    },
}  # fmt: skip

NONE = "The images are not normalised: subtract {mean} mean and divide by its std."
HALF = "A mean and std of 0.5 are used: this model takes {mean}."
MAX255 = ("Values from 0 to 255 are normalised as if they were from 0 to 1: divide them by 255 "
          "before the mean and std.")  # fmt: skip
SENTENCES = {
    "heads3": "The network has 3 attention heads, as timm's vit_tiny_patch16_224 has; TinyUSFM has "
    "12 of 16 channels. The file fits both: make the network with num_heads=12.",
    "heads3_cls": "The network has 3 attention heads, as timm's vit_tiny_patch16_224 has; TinyUSFM "
    "has 12 of 16 channels. The file fits both: make the network with num_heads=12.",
    "heads6": "The network has 6 attention heads; TinyUSFM has 12 of 16 channels. The file fits "
    "both: make the network with num_heads=12.",
    "heads8": "The network has 8 attention heads; FetalCLIP has 16 of 64 channels. The file fits "
    "both: make the network with 16 heads.",
    "no_normalisation": NONE,
    "not_normalised": NONE,
    "imagenet_mean_std": "ImageNet's mean and std are used: this model takes {mean}.",
    "clip_mean_std": "CLIP's mean and std are used: this model takes {mean}.",
    "half_mean_std": HALF,
    "mean_std_half": HALF,
    "commented_mean_std": "The mean and std are those of a comment in the authors' code (0.162, "
    "0.163, 0.165 and 0.180, 0.179, 0.182): the lines that run take ImageNet's.",
    "normalised_twice": "The images are normalised twice: leave one of the two out.",
    "range_255": MAX255,
    "0_to_255_normalised": MAX255,
    "bgr": "Red and blue are exchanged: give the channels as red, green, blue.",
    "bgr_after_normalisation": "Red and blue are exchanged after the normalisation: give the "
    "channels as red, green, blue.",
    "all_197_places": "The class token is part of the mean over patch tokens: leave the first "
    "place out.",
    "all_257_places": "The class token is part of the mean over patch tokens: leave the first "
    "place out.",
    "no_positions": "The position table is not added: fill pos_embed from the file and add it.",
    "positions_recomputed": "The position table is computed: take pos_embed from the file.",
    "norm_not_loaded": "The final norm has its initial values, as strict=False leaves it if the "
    "network calls it by another name: fill norm.weight and norm.bias from the file.",
    "no_qkv_bias": "The attention has no biases: fill qkv.bias from the file.",
    "cls_for_mean": "The class token is given where the mean over the patch tokens is asked for.",
    "quickgelu": "The activation is QuickGELU, as transformers' CLIP has it by default: FetalCLIP "
    "has the exact GELU.",
    "no_ln_pre": "The norm before the first block (ln_pre) is left out.",
    "unit_length": "The feature is scaled to length one: give it as the projection leaves it.",
    "prenorm_cls_projected": "The class token is projected before the final norm: apply ln_post "
    "first.",
    "mean_projected": "The mean over the patch tokens is projected: CLIP's feature is the class "
    "token's.",
    "no_head_norm": "The norm between mean and projection (trunk.head.norm) is left out.",
    "head_norm_not_loaded": "The norm of the head has its initial values, as strict=False leaves "
    "it if the network calls it by another name: fill trunk.head.norm from the file.",
    "layer_scale_not_loaded": "The layer scales have their initial values, as strict=False leaves "
    "them if the network calls them by other names: fill them from the file.",
    "resized_224": "The images are resized to 224 pixels: this model takes 256.",
    "no_head_bias": "The projection has no bias: fill head.bias from the file.",
    "batchnorm_in_training_mode": "BatchNorm is in training mode, so that a feature depends on "
    "the other images of its batch: call eval() on the network.",
    "running_statistics_not_loaded": "BatchNorm has its initial running statistics: fill "
    "running_mean and running_var from the file.",
    "pooled_without_layernorm": "The mean over the map is given without the norm that follows it "
    "(classifier.0).",
    "mean_of_normed_map": "The norm (classifier.0) comes before the mean over the map: it belongs "
    "after it.",
    "max": "The maximum over the map is given: it is the mean, then the norm.",
    "alt_bgr": "The channels are blue, green, red, as the authors' video loader gives them; they "
    "are red, green, blue here. For grey images it makes no difference.",
}


def main(source: Path) -> None:
    for model, wanted in MODELS.items():
        described, arrays = excerpt(model, source / model, wanted)
        np.savez_compressed(HERE / f"{model}.npz", **arrays)
        lines = ",\n".join(json.dumps(key) for key in described.pop("keys"))
        head = json.dumps(described, indent=1)[:-2]
        (HERE / f"{model}.json").write_text(f'{head},\n "keys": [\n{lines}\n ]\n}}\n')


def excerpt(
    model: str, folder: Path, wanted: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    expected = np.load(folder / "expected.npz")
    keys = json.loads((folder / "keys.json").read_text())["keys"]
    pooled, scale = wanted["pooled"], float(expected["fill_scale"])
    arrays = {array: expected[array] for array in pooled.values()}
    least = min(float(np.abs(values).max()) for values in arrays.values())
    outputs = [
        {"array": array, "of": "features", "pooling": pooling} for pooling, array in pooled.items()
    ]
    places = [int(place) for place in expected["token_index"]]
    arrays["tokens"] = expected["tokens"][:1]
    first = next(iter(pooled))
    outputs.append({"array": "tokens", "of": "tokens", "pooling": first, "places": places})
    mistakes, numbers = mistakes_of(expected, pooled, wanted["mean"])
    arrays["mistakes"] = numbers
    described = {
        "input": {
            "seed": int(expected["input_seed"]),
            "size": wanted.get("size", 224),
            "batch": 2,
            "grey": False,
            "prepared": False,
        },
        "parts": {
            entry: {**part, **({} if scale == 0.02 else {"scale": scale})}
            for entry, part in wanted["parts"].items()
        },
        "beside": wanted.get("beside", {}),
        "old_format": False,
        "tolerance": float(f"{9.9e-5 * least:.1e}"),  # relative, as the vectors' READMEs say
        "outputs": outputs,
        "mistakes": mistakes,
        "keys": [[one["key"], shape(one)] for one in keys],
    }
    return described, arrays


def shape(key: dict[str, Any]) -> list[int]:
    counter = key["key"].endswith("num_batches_tracked")
    return key["shape"] or ([] if counter else [1])


def mistakes_of(
    expected: Any, pooled: dict[str, str], mean: str
) -> tuple[list[dict[str, str]], np.ndarray]:
    """What each mistake is called, which array it belongs to, and its first numbers."""
    found, numbers = [], []
    for array in expected:
        if array == "alt_bgr_pooled":
            name = "alt_bgr"
        elif (array.startswith("wrong_") and "clip_pooled" not in expected) or array in STILLS:
            name = array.removeprefix("wrong_")
        else:
            continue
        of = next(iter(pooled.values()))
        if name.endswith("_mean") and name not in SENTENCES:
            name, of = name.removesuffix("_mean"), "pooled_mean"
        elif name == "heads3_cls":
            of = "cls"
        if name not in SENTENCES:
            raise SystemExit(f"no sentence for {array}")
        values = expected[array][0]
        if len(values) != expected[of].shape[1]:
            raise SystemExit(f"{array} does not belong to {of}")
        found.append({"name": name, "of": of, "sentence": SENTENCES[name].format(mean=mean)})
        numbers.append(values[:NUMBERS])
    return found, np.stack(numbers)


# PanEcho's, whose other mistakes are of clips.
STILLS = [f"wrong_{name}" for name in (
    "pooled_without_layernorm", "mean_of_normed_map", "not_normalised", "mean_std_half",
    "clip_mean_std", "bgr", "0_to_255_normalised", "max",
)]  # fmt: skip

if __name__ == "__main__":
    main(Path(sys.argv[1]))
