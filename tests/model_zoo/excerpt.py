"""Make the excerpts in model_zoo/conformance from the full vectors (../shared/conformance).

    python tests/model_zoo/excerpt.py ../shared/conformance

Pooled features whole, tokens at up to 16 places of the first image, and the key lists. README.md
there says what the numbers are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parents[2] / "model_zoo" / "conformance"
PLACES = 16

VIT = {
    "mean": "pooled_mean",
    "cls": "cls",
    "mean_prenorm": "pooled_mean_prenorm",
}
WHOLE = {"rule": "", "prefix": "", "filled": True}
EMPTY = {**WHOLE, "filled": False}

# model -> folder of the vectors, pooled arrays by pooling, token array and the pooling it is of
MODELS: dict[str, dict[str, Any]] = {
    "dinov3": {"pooled": {"cls": "cls_token", "mean": "pooled_patch_mean"}},
    "echocare": {"pooled": {"mean": "pooled", "mean_prenorm": "pooled_unnormalised"}},
    "ijepa": {"pooled": {"mean": "pooled_mean"}},
    "ijepa-vitb16": {"pooled": {"mean": "pooled_mean"}},
    "sam": {"pooled": {"preneck": "pooled_preneck", "neck": "pooled_neck"}},
    "samus": {"pooled": {"preneck": "gray_pooled_preneck", "neck": "gray_pooled_neck"}},
    "ultrasam": {"pooled": {"preneck": "pooled_preneck", "neck": "pooled_neck"}},
    "urfm": {"pooled": VIT},
    "us-jepa": {"folder": "ijepa-vitb16", "pooled": {"mean": "pooled_mean"}},
    "usf-mae": {"pooled": VIT},
    "usfm": {"pooled": VIT},
    "usrc-jepa": {"folder": "ijepa-vitb16", "pooled": {"mean": "pooled_mean"}},
}


def main(source: Path) -> None:
    for model, wanted in MODELS.items():
        folder = source / wanted.get("folder", model)
        described, arrays = excerpt(model, folder, wanted["pooled"])
        np.savez_compressed(HERE / f"{model}.npz", **arrays)
        # A key a line, so that a change shows in a diff.
        lines = ",\n".join(json.dumps(key) for key in described.pop("keys"))
        head = json.dumps(described, indent=1)[:-2]
        (HERE / f"{model}.json").write_text(f'{head},\n "keys": [\n{lines}\n ]\n}}\n')
    total = sum(path.stat().st_size for path in HERE.iterdir())
    print(f"{len(MODELS)} models, {total / 2**20:.2f} MiB")


def excerpt(
    model: str, folder: Path, pooled: dict[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    expected = np.load(folder / "expected.npz")
    keys = json.loads((folder / "keys.json").read_text())
    jepa = folder.name.startswith("ijepa")
    own = model.startswith("us") and jepa
    listed = keys["target_encoder_keys" if jepa else "keys"]
    sam = "grid_rows" in expected
    size = int(expected["input_size"]) if "input_size" in expected else 224
    described: dict[str, Any] = {
        "input": {
            "seed": int(expected["input_seed"]),
            "size": 256 if model == "echocare" else size,
            "batch": 1 if sam and model != "samus" else 2,
            "grey": model == "samus",
            "prepared": own,
        },
        "parts": parts(model),
        "beside": {"model": "mae_vit_base_patch16_dec768d8b"} if model == "urfm" else {},
        "old_format": model == "samus",
        "tolerance": 1e-4 if model == "echocare" else 2e-5,  # as the vectors' READMEs say
        "outputs": [
            {"array": array, "of": "features", "pooling": pooling}
            for pooling, array in pooled.items()
        ],
        "keys": [[key["key"], key["shape"] or [1]] for key in listed],  # one shape is not known
    }
    arrays = {array: expected[array] for array in pooled.values()}
    if not own:
        array, places, tokens = token_excerpt(model, expected)
        arrays[array] = tokens
        described["outputs"].append(
            {"array": array, "of": "tokens", "pooling": first(model, pooled), "places": places}
        )
    return described, arrays


def first(model: str, pooled: dict[str, str]) -> str:
    """The pooling whose map the tokens are of."""
    return "neck" if model == "samus" else next(iter(pooled))


def token_excerpt(model: str, expected: Any) -> tuple[str, list[int], np.ndarray]:
    """Name, raster places and values [1, places, D] of a few tokens of the first image."""
    if model == "samus":  # every fourth row and column of 32, of the map after the neck
        array, grid, rows = "gray_neck_tokens", 32, list(range(0, 32, 4))
        values = expected[array][:1].reshape(1, 64, -1)
        places = [row * grid + column for row in rows for column in rows]
    elif "grid_rows" in expected:
        array, grid = "preneck_tokens", 64
        values = expected[array][:1].reshape(1, 256, -1)
        rows, columns = expected["grid_rows"].tolist(), expected["grid_cols"].tolist()
        places = [row * grid + column for row in rows for column in columns]
    else:
        array = "tokens" if "tokens" in expected else "patch_tokens"
        values = expected[array][:1]
        index = expected["token_index"] if "token_index" in expected else range(values.shape[1])
        places = [int(place) for place in index]
    step = max(1, len(places) // PLACES)
    return array, places[::step][:PLACES], values[:, ::step][:, :PLACES]


def parts(model: str) -> dict[str, dict[str, Any]]:
    """What the released file wraps its tensors in, with decoys where a loader could slip."""
    if model == "urfm":
        raw = {**WHOLE, "rule": "state_dict.module.", "prefix": "module."}
        return {"state_dict": raw, "ema_state_dict": {**WHOLE, "rule": "ema_state_dict."}}
    if model.startswith("ijepa"):
        return {"encoder": EMPTY, "target_encoder": WHOLE}
    if model.startswith("us") and model.endswith("jepa"):
        return {"encoder": WHOLE, "target_encoder": EMPTY}
    return {"state_dict" if model == "ultrasam" else "": WHOLE}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
