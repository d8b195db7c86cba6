"""Configurations: Table 5 to the row, overrides, and a sentence for everything that is wrong."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from ultrabench_eval.core.errors import UserError
from usjepa import config, loader
from usjepa.config import CONFIGS

TABLE_5 = {
    "model.width": 768,
    "model.depth": 12,
    "model.heads": 12,
    "predictor.depth": 12,
    "predictor.width": 384,
    "predictor.target_width": 768,
    "model.image_size": 224,
    "data.crop_scale": [0.6, 1.0],
    "train.batch_size": 128,
    "model.patch_size": 16,
    "masks.context_count": 1,
    "masks.context_scale": [0.85, 1.0],
    "masks.target_count": 4,
    "masks.target_scale": [0.075, 0.125],
    "masks.aspect_ratio": [0.75, 1.5],
    "masks.min_keep": 10,
    "train.optimizer": "adamw",
    "train.epochs": 100,
    "train.warmup_epochs": 10,
    "train.learning_rate": 5e-5,
    "train.start_learning_rate": 5e-6,
    "train.final_learning_rate": 5e-7,
    "train.schedule": "cosine",
    "train.weight_decay": 0.04,
    "train.final_weight_decay": 0.4,
    "train.ema": [0.996, 1.0],
    # Sections 4.1 and 4.3, appendix C.1, eq. 6.
    "teacher.name": "urfm",
    "data.grey": True,
    "data.inpaint_below": 0.05,
    "data.percentiles": [2, 98],
    "data.dataset_cap": 50_000,
    "data.held_out": 0.05,
}


def at(content: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        content = content[key]
    return content


@pytest.mark.parametrize("name", ["us_jepa_vitb16", "usrc_jepa_vitb16"])
def test_every_row_of_table_5_is_written_in_the_file(name: str) -> None:
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    loaded = asdict(config.load(name))
    for key, wanted in TABLE_5.items():
        assert at(written, key) == wanted, key
        value = at(loaded, key)
        assert (list(value) if isinstance(value, tuple) else value) == wanted, key
    for kind in ("flip_horizontal", "flip_vertical", "blur_probability", "speckle_probability"):
        assert at(written, f"data.augment.{kind}") > 0
    assert at(written, "data.augment.contrast_probability") > 0


@pytest.mark.parametrize(
    "pair", [("us_jepa_vitb16", "usrc_jepa_vitb16"), ("us_jepa_nano", "usrc_jepa_nano")]
)
def test_the_two_models_differ_in_region_conditioning_only(pair: tuple[str, str]) -> None:
    plain, conditioned = (asdict(config.load(name)) for name in pair)
    different = {key for key in plain if plain[key] != conditioned[key]}
    assert different == {"name", "region_conditioning"}
    assert (plain["region_conditioning"], conditioned["region_conditioning"]) == (False, True)


def test_the_two_without_a_frozen_teacher_are_on_equal_terms() -> None:
    averaged, mae = config.load("ijepa_nano"), config.load("mae_nano")
    for part in ("image_size", "patch_size", "width", "depth", "heads", "stem"):
        assert getattr(averaged.model, part) == getattr(mae.model, part)
    assert averaged.train.epochs == mae.train.epochs
    assert averaged.train.batch_size == mae.train.batch_size
    # A teacher that learns from the student must not be asked for what the student sees.
    assert not averaged.masks.allow_overlap
    assert averaged.predictor.context_weight == 0


def test_every_configuration_loads_and_says_what_to_expect() -> None:
    assert config.names() == [
        *("ijepa_nano", "mae_nano", "mae_vitb16", "us_jepa_nano", "us_jepa_vitb16"),
        *("usrc_jepa_nano", "usrc_jepa_vitb16", "videomae_nano", "vjepa_loc_nano"),
        *("vjepa_loc_vitl16", "vjepa_nano", "vjepa_vitl16"),
    ]
    ids = set()
    for name in config.names():
        loaded = config.load(name)
        ids.add(loaded.id)
        loader.sampler_of(loaded).sample(2, 0)
        text = (CONFIGS / f"{name}.yaml").read_text()
        head = text[: text.index("\nname:")]
        assert all(line.startswith("#") for line in head.splitlines())
        assert "Expected time" in head
        assert "outcome" in head
        if name.endswith("nano"):
            sizes = (128, 6) if loaded.video else (192, 8)
            if "jepa_nano" in name and loaded.objective == "salt":
                sizes = (256, 4)
            assert (loaded.model.width, loaded.model.depth) == sizes
    assert len(ids) == len(config.names())


def test_overrides_are_yaml_and_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n")
    loaded = config.load(
        path,
        [
            "train.epochs=2",
            "train.epochs=3",
            "train.learning_rate=1e-3",
            "data.augment.blur_sigma=[0.5, 2]",
            "teacher.weights=a=b.pt",
            "train.clip=null",
            "region_conditioning=true",
        ],
    )
    assert loaded.name == "mine"
    assert loaded.train.epochs == 3
    assert loaded.train.learning_rate == 1e-3
    assert loaded.train.batch_size == 128
    assert loaded.data.augment.blur_sigma == (0.5, 2.0)
    assert loaded.teacher.weights == "a=b.pt"
    assert loaded.train.clip is None
    assert loaded.region_conditioning


def test_ids_tell_runs_apart_but_not_names() -> None:
    first = config.load("us_jepa_nano")
    assert first.id == config.load("us_jepa_nano", ["name=other"]).id
    assert first.id != config.load("us_jepa_nano", ["train.eps=1e-7"]).id
    assert config.validate(asdict(first)) == first


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=2", r"unknown key 'train.epoch' \(did you mean 'epochs'\?\)"),
        ("trian.epochs=2", r"unknown key 'trian' \(did you mean 'train'\?\)"),
        ("data.augment.flip=1", r"unknown key 'data.augment.flip'.*flip_horizontal"),
        ("train.epochs", "cannot read override 'train.epochs'; write it as section.key=value"),
        ("=3", "cannot read override '=3'"),
        ("train..epochs=3", "cannot read override"),
        ("train.epochs=[", "cannot read the value of override .*not YAML"),
        ("name.first=x", "'name' holds a value, not keys; write name=value"),
        ("train.epochs=zwei", "train.epochs: input should be a valid integer.*not 'zwei'"),
        ("train.epochs=0", "train.epochs: .*greater than or equal to 1, not 0"),
        ("masks.target_scale=[0.2, 0.1]", "masks.target_scale: the first of 0.2 and 0.1"),
        ("masks.target_scale=[0, 0.1]", "masks.target_scale.0"),
        ("masks.context_count=2", "masks.context_count: input should be 1, not 2"),
        ("model.width=190", "model: width 190 is not a multiple of heads 4"),
        ("predictor.width=90", "predictor: width 90 is not a multiple of 4"),
        ("model.image_size=225", "model: image_size 225 is not a multiple of patch_size 16"),
        ("train.accumulate=3", "train: batch_size 16 is not a multiple of accumulate 3"),
        (
            "objective=jepa",
            "objective: input should be 'salt', 'ijepa', 'mae', 'vjepa' or 'videomae', not",
        ),
        ("train.learning_rate=.nan", "train.learning_rate=.nan.*not a finite number"),
        ("train.learning_rate='nan'", "train.learning_rate: .*finite number"),
        ("train.epochs=2024-13-45", "train.epochs=2024-13-45.*line 1 is not valid"),
        ("train.stretch=1e308", "train.stretch: .*less than or equal to 1000000"),
        ("train.batch_size=true", "train.batch_size: must be a number, not true"),
        ("train.betas=[true, 0.9]", "train.betas.0: must be a number, not true"),
        ("train.eps=0", "train.eps: "),
        ("train.clip=1e-300", "train.clip: "),
        ("seed=9223372036854775808", "seed=9.*more than 63 bits"),
        ("seed=99999999999999999999999999", "more than 63 bits"),
        ("masks.min_keep=100000", "masks.min_keep 100000 can never be reached.* only 196 patches"),
        ("masks.min_keep=196", "masks.min_keep 196 can never be reached"),
        ("masks.aspect_ratio=[1e-320, 1]", "masks.aspect_ratio.0: "),
        ("data.augment.blur_sigma=[1, 1e9]", "data.augment.blur_sigma.1: "),
        ("data.percentiles=[50, 50]", "data.percentiles: the two must differ"),
        ("masks={min_keep: 1, min_keep: 2}", "the key 'min_keep' is given twice"),
        ("name=Bad Name", "name: "),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        config.load("us_jepa_nano", [override])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no configuration 'us_jepa_nan' \(did you mean 'us_jepa_nano'"
    ):
        config.load("us_jepa_nan")
    with pytest.raises(UserError, match="configuration not found"):
        config.load(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    for text, message in [
        ("a: [", "cannot read configuration"),
        ("- a\n", "cannot read configuration .*key: value"),
        ("name: a\nseed: 1\nname: b\n", "the key 'name' is given twice, in lines 1 and 3"),
        ("", "holds no keys"),
        ("sede: 1\n", r"unknown key 'sede' \(did you mean 'seed'"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            config.load(path)
        assert "bad.yaml" in str(caught.value)
        assert "\n" not in str(caught.value)
