"""One registry: lazy, with near names, and no silent clashes."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from ultrabench_eval.core import registry as module
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.registry import Registry


def make(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> Registry:
    found = [EntryPoint(name, value, "things") for name, value in points]
    monkeypatch.setattr(module, "entry_points", lambda group: found)
    registry = Registry("model", group="things", listing="ubench models")
    registry.register("usfm", "json:loads")
    registry.register("usf-mae", "json:dumps")
    registry.register("timm/", "json:load")
    return registry


def test_a_target_is_imported_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    registry = make(monkeypatch)
    registry.register("broken", "no_such_module:x")  # nobody notices before it is used
    assert registry.get("usfm") is json.loads
    assert registry.names() == ["broken", "timm/<name>", "usf-mae", "usfm"]


def test_a_family_answers_to_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    registry = make(monkeypatch)
    assert registry.get("timm/resnet18") is json.load
    assert "timm/resnet18" in registry
    for name in ("timm", "timm/"):
        assert name not in registry


@pytest.mark.parametrize("asked", ["usf-jepa", "USFM", "usf_mae"])
def test_unknown_names_bring_near_ones(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    with pytest.raises(UserError, match=r"unknown model .* did you mean .*'usf.*ubench models"):
        make(monkeypatch).get(asked)


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make(monkeypatch)
    registry.register("usfm", "json:loads")  # the same again is harmless
    with pytest.raises(UserError, match=r"'usfm' is already taken by json:loads"):
        registry.register("usfm")(object())
    registry.remove("usfm")
    registry.register("usfm", target := object())
    assert registry.get("usfm") is target
    assert registry.registered() == {"usfm", "usf-mae", "timm/"}


def test_the_decorator_gives_its_class_back(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make(monkeypatch)

    @registry.register("mine")
    class Mine:
        pass

    assert registry.get("mine") is Mine


def test_a_builtin_wins_over_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    registry = make(monkeypatch, ("usfm", "json:dump"), ("theirs", "json:dump"))
    with pytest.warns(UserWarning, match="'usfm' of .* is ignored"):
        registry.names()
    assert registry.get("usfm") is json.loads
    assert registry.get("theirs") is json.dump


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([("x", "json:dump"), ("x", "json:load")], "claimed by .*uninstall one"),
        ([("x", "no_such_module:y")], "cannot be imported .*ModuleNotFoundError.*repair"),
        ([("x", "json:nothing")], "cannot be imported .*AttributeError"),
    ],
)
def test_broken_packages_are_told(
    monkeypatch: pytest.MonkeyPatch, points: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(monkeypatch, *points).get("x")


def test_the_same_entry_point_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    # Found on two entries of sys.path, as editable installations are.
    points: Any = [("x", "json:dump"), ("x", "json:dump")]
    assert make(monkeypatch, *points).get("x") is json.dump
