"""A checkpoint fills a network to the last key, or the error names what does not fit."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model_zoo import weights
from model_zoo.weights import Source
from ultrabench_eval.core.errors import UserError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: torch.randn(v.shape).to(v.dtype) for k, v in network().state_dict().items()}


def source(path: str = "w.pth") -> Source:
    return Source(Path(path))


# ---- finding --------------------------------------------------------------------------------


def test_nothing_given_and_nothing_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    assert weights.find("sam", None) is None
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path / "missing"))
    assert weights.find("sam", None) is None


def test_the_folder_variable_is_searched_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    for file in ("samus.pth", "sam_vit_b.pth", "sam.txt", "us-jepa-v1.safetensors"):
        (tmp_path / file).touch()
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "resnet18.a1_in1k.safetensors").touch()
    (tmp_path / "timm" / "resnet18d.safetensors").touch()
    assert weights.find("sam", None) == (tmp_path / "sam_vit_b.pth", None)
    assert weights.find("us-jepa", None) == (tmp_path / "us-jepa-v1.safetensors", None)
    found = weights.find("timm/resnet18", None)
    assert found == (tmp_path / "timm" / "resnet18.a1_in1k.safetensors", None)
    (tmp_path / "sam.pth").touch()
    with pytest.raises(UserError, match=r"several weights fit .*sam\.pth, .*sam_vit_b\.pth; keep"):
        weights.find("sam", None)


def test_files_as_they_are_downloaded_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    names = {
        "usfm": "USFM_latest.pth",
        "ultrasam": "UltraSam.pth",
        "usf-mae": "USF-MAE_full_pretrain_43dataset_100epochs.pt",
        "ijepa-vitb16": "ijepa-vitb16.pth",
        "ijepa": "ijepa-h14.pth.tar",
        "echocare": "echocare_encoder.pth",
    }
    for file in names.values():
        (tmp_path / file).touch()
    for name, file in names.items():
        assert weights.find(name, None) == (tmp_path / file, None)
    (tmp_path / "ijepa-h14.pth.tar").unlink()
    assert weights.find("ijepa", None) is None  # the other model's is not its own


def test_explicit_paths(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    with pytest.raises(UserError, match=r"weights of model 'm' not found: .*a\.pth; check"):
        weights.find("m", file)
    with pytest.raises(UserError, match="holds no weights for model 'm'; put a"):
        weights.find("m", tmp_path)
    file.touch()
    assert weights.find("m", str(file)) == (file, None)
    assert weights.find("m", tmp_path) == (file, None)
    assert weights.find("m", f"{file}#target_encoder") == (file, "target_encoder")
    assert str(Source(file, "x")) == f"{file}#x"
    odd = tmp_path / "b#c.pth"
    odd.touch()
    assert weights.find("m", odd) == (odd, None)  # a real file comes before an entry
    with pytest.raises(UserError, match=r"several weights fit.*a\.pth.*b#c\.pth; name one"):
        weights.find("m", tmp_path)


# ---- opening --------------------------------------------------------------------------------


def test_both_formats_and_old_torch_files_are_read(tmp_path: Path) -> None:
    expected = state()
    torch.save(expected, tmp_path / "zip.pth")
    torch.save(expected, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(expected, tmp_path / "x.safetensors")
    for file in sorted(tmp_path.iterdir()):
        tensors = weights.tensors_of(weights.read(file))
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_files_are_told(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
    whole = path.read_bytes()
    cut = whole[: len(whole) // 2]
    path.write_bytes({"cut": cut, "empty": b"", "noise": b"\x07noise" * 40}[damage])
    with pytest.raises(UserError, match=r"w\.\w+ cannot be read as a checkpoint .*download it"):
        weights.read(path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


@pytest.mark.parametrize("content", [Evil(), {"args": argparse.Namespace(lr=1), "w": Evil()}])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_checkpoint_cannot_run_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, zipped: bool
) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"holds Python objects beside tensors .*safetensors"):
        weights.read(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer.*git lfs"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not weights"),
    ],
)
def test_things_that_are_downloaded_by_mistake(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        weights.read(tmp_path / "w.pth")


def test_a_bare_tensor_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds a Tensor, not a state dict"):
        weights.read(tmp_path / "w.pth")


# ---- filling --------------------------------------------------------------------------------


def test_fill_sets_every_key() -> None:
    filled = weights.fill(network(), state() | {"head.w": torch.ones(1)}, name="m",
                          source=source(), leftovers=("head.*",))  # fmt: skip
    assert all(torch.equal(v, state()[k]) for k, v in filled.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, r"w\.pth does not fit model 'm': 1 missing \(0\.bias\)"),
        ({"1.running_var": None}, r"1 missing \(1\.running_var\)"),
        ({"head.w": torch.ones(1)}, r"1 unexpected \(head\.w\)"),
        (
            {"0.weight": torch.ones(4, 3, 3, 3)},
            r"1 of another shape \(0\.weight: \[4, 3, 3, 3\] in the file, \[4, 3, 2, 2\] in",
        ),
        ({"0.bias": torch.full((4,), float("nan"))}, r"NaN or infinite numbers in 0\.bias"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_filled(
    change: dict[str, Tensor | None], message: str
) -> None:
    tensors = {k: v for k, v in (state() | change).items() if v is not None}
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(UserError, match=message):
        weights.fill(target, tensors, name="m", source=source())
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_long_lists_of_keys_are_shortened() -> None:
    tensors = {f"k{number}": torch.ones(1) for number in range(9)}
    with pytest.raises(UserError, match=r"9 unexpected \(k0, k1, k2, k3 and 5 more\)"):
        weights.fill(network(), tensors | state(), name="m", source=source())


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state().items()}


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (state(), None),
        (prefixed("module."), None),
        ({"encoder": prefixed("module."), "epoch": 3, "opt": {"lr": 1}}, None),
        ({"encoder": state(), "predictor": {"w": torch.ones(1)}}, None),
        ({"encoder": state(), "target_encoder": state()}, "encoder"),
        (prefixed("student.") | {"teacher.w": torch.ones(1)}, "student"),
    ],
)
def test_the_part_that_fits_is_chosen(content: dict[str, object], entry: str | None) -> None:
    where = Source(Path("w.pth"), entry)
    chosen = weights.choose(network(), content, name="m", source=where)
    assert all(torch.equal(chosen[key], value) for key, value in state().items())


def test_two_parts_that_fit_are_not_chosen_between() -> None:
    content = {"encoder": state(), "target_encoder": state()}
    with pytest.raises(UserError, match=r"several networks .*--weights m=w\.pth#encoder"):
        weights.choose(network(), content, name="m", source=source())


def test_no_part_that_fits_is_told_by_the_nearest() -> None:
    content = {
        "encoder": prefixed("a."),
        "ema": {k: v for k, v in state().items() if k != "0.bias"},
    }
    with pytest.raises(UserError, match=r"does not fit model 'm': 1 missing \(0\.bias\)"):
        weights.choose(network(), content, name="m", source=source())
    with pytest.raises(UserError, match=r"w\.pth#x holds no tensors .*encoder, ema.*PATH#entry"):
        weights.choose(network(), content, name="m", source=Source(Path("w.pth"), "x"))
