"""Cards are validated data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import model_zoo
import tasks
from model_zoo import cards, described
from model_zoo.cards import Card, HubFile
from tasks import BUILT_IN


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "verified"},
        {"licence": "MIT"},
        {"parameters": "many"},
        {"inferred": 3},
        {"hub": {"repository": "a/b"}},
    ],
)
def test_a_card_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    assert Card(title="a").status == "unverified"
    with pytest.raises(ValidationError):
        Card(title="a", **wrong)


def test_every_released_model_has_a_full_card() -> None:
    for name in ("usfm", "urfm", "usf-mae", "echocare", "samus", "ultrasam", "dinov3", "ijepa",
                 "us-jepa", "usrc-jepa", "sam", "biomedclip", "tinyusfm", "ultrafedfm", "fetalclip",
                 "mobile-fetalclip", "echoclip", "panecho", "vjepa-vitl16", "vjepa2-vitl",
                 "videomae", "echofm", "echoprime", "panecho-clip"):  # fmt: skip
        card = model_zoo.card(name)
        assert card.parameters
        assert card.dim
        assert card.paper != "not stated"
        assert card.weights_from != "not stated"
        assert card.status.startswith("verified by ")
        proved = card.verified == "authors' code"
        assert proved == (card.status == "verified by the authors' code")
        for task in card.saw or ():
            assert task in {*BUILT_IN, *(tasks.card(name).dataset for name in BUILT_IN)}
        told = model_zoo.describe(name)
        assert json.loads(json.dumps(told)) == told
        assert told["poolings"]
        assert told["input"]["size"]


def test_what_is_written_down_of_the_models_is_what_they_say() -> None:
    assert described.written(), "modules have changed: `python -m model_zoo.described`"
    built_in = [n for n in model_zoo.names() if n.removesuffix("<name>") in model_zoo.BUILT_IN]
    assert described.written() == {
        name: cards.describe(name, model_zoo.registry.get(name)) for name in built_in
    }


def test_what_may_be_out_of_date_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = json.loads(described.FILE.read_text("utf-8"))
    known["models"]["pixels"]["title"] = "wrong"
    known["sources"] = "0" * 64
    (tmp_path / "described.json").write_text(json.dumps(known))
    monkeypatch.setattr(described, "FILE", tmp_path / "described.json")
    described.written.cache_clear()
    try:
        assert described.written() == {}
        assert model_zoo.describe("pixels")["title"] != "wrong"
    finally:
        described.written.cache_clear()


def test_contamination_says_what_is_known() -> None:
    assert model_zoo.card("usf-mae").contamination == "aul, pocus"
    assert model_zoo.card("dinov3").contamination == "none stated"
    assert model_zoo.card("usfm").contamination == "not known"


def test_names_with_a_pooling() -> None:
    assert model_zoo.split("usfm/cls") == ("usfm", "cls")
    assert model_zoo.split("timm/vit_tiny_patch16_224/mean") == (
        "timm/vit_tiny_patch16_224",
        "mean",
    )
    for whole in ("usfm", "timm/resnet18", "hf/org/model", "nothing/cls", "usfm/neck"):
        assert model_zoo.split(whole) == (whole, None)
    assert model_zoo.problem("usfm/cls") is None
    assert model_zoo.problem("usfm/neck") == (
        "model 'usfm' has no pooling 'neck'; it has mean, cls, cls+mean, mean_prenorm, last4"
    )
    assert "did you mean 'usfm'" in str(model_zoo.problem("usfn"))
    assert model_zoo.card("usfm/cls") == model_zoo.card("usfm")


def test_hub_files_of_cards_are_whole() -> None:
    for name in model_zoo.names():
        hub = model_zoo.card(name).hub
        if hub is not None:
            assert isinstance(hub, HubFile)
            assert hub.repository.count("/") == 1
            assert hub.file.endswith((".pth", ".pt", ".bin", ".safetensors"))
