"""A checkpoint fills a network to the last key, or the error names what does not fit."""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import model_zoo
from model_zoo.checkpoints import files, parts
from model_zoo.checkpoints.files import WeightsSource
from ultrabench_eval.core.errors import UserError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: torch.randn(v.shape).to(v.dtype) for k, v in network().state_dict().items()}


def source(path: str = "w.pth") -> WeightsSource:
    return WeightsSource(Path(path))


# ---- finding --------------------------------------------------------------------------------


def test_nothing_given_and_nothing_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    assert files.find("sam", None) is None
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path / "missing"))
    assert files.find("sam", None) is None


def test_the_folder_variable_is_searched_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    for file in ("samus.pth", "sam_vit_b.pth", "sam.txt", "us-jepa-v1.safetensors"):
        (tmp_path / file).touch()
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "resnet18.a1_in1k.safetensors").touch()
    (tmp_path / "timm" / "resnet18d.safetensors").touch()
    assert files.find("sam", None) == (tmp_path / "sam_vit_b.pth", None)
    assert files.find("us-jepa", None) == (tmp_path / "us-jepa-v1.safetensors", None)
    found = files.find("timm/resnet18", None)
    assert found == (tmp_path / "timm" / "resnet18.a1_in1k.safetensors", None)
    (tmp_path / "sam.pth").touch()
    with pytest.raises(UserError, match=r"several weights fit .*sam\.pth, .*sam_vit_b\.pth; keep"):
        files.find("sam", None)


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
        assert files.find(name, None) == (tmp_path / file, None)
    (tmp_path / "ijepa-h14.pth.tar").unlink()
    assert files.find("ijepa", None) is None  # the other model's is not its own


def test_explicit_paths(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    with pytest.raises(UserError, match=r"weights of model 'm' not found: .*a\.pth; check"):
        files.find("m", file)
    with pytest.raises(UserError, match="holds no weights for model 'm'; put a"):
        files.find("m", tmp_path)
    file.touch()
    assert files.find("m", str(file)) == (file, None)
    assert files.find("m", tmp_path) == (file, None)
    assert files.find("m", f"{file}#target_encoder") == (file, "target_encoder")
    assert str(WeightsSource(file, "x")) == f"{file}#x"
    odd = tmp_path / "b#c.pth"
    odd.touch()
    assert files.find("m", odd) == (odd, None)  # a real file comes before an entry
    with pytest.raises(UserError, match=r"several weights fit.*a\.pth.*b#c\.pth; name one"):
        files.find("m", tmp_path)


# ---- opening --------------------------------------------------------------------------------


def test_both_formats_and_old_torch_files_are_read(tmp_path: Path) -> None:
    expected = state()
    torch.save(expected, tmp_path / "zip.pth")
    torch.save(expected, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(expected, tmp_path / "x.safetensors")
    for file in sorted(tmp_path.iterdir()):
        tensors = files.tensors_of(files.read(file))
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
        files.read(path)


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
    with pytest.raises(UserError, match=r"cannot be opened without running code .*print"):
        files.read(path)
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
        files.read(tmp_path / "w.pth")


def test_a_bare_tensor_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds a Tensor, not a state dict"):
        files.read(tmp_path / "w.pth")


# ---- filling --------------------------------------------------------------------------------


def test_fill_sets_every_key() -> None:
    filled = files.fill(network(), state() | {"head.w": torch.ones(1)}, name="m",
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
        files.fill(target, tensors, name="m", source=source())
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_long_lists_of_keys_are_shortened() -> None:
    tensors = {f"k{number}": torch.ones(1) for number in range(9)}
    with pytest.raises(UserError, match=r"9 unexpected \(k0, k1, k2, k3 and 5 more\)"):
        files.fill(network(), tensors | state(), name="m", source=source())


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
    where = WeightsSource(Path("w.pth"), entry)
    chosen = parts.choose(network(), content, name="m", source=where).tensors
    assert all(torch.equal(chosen[key], value) for key, value in state().items())


HEADED = prefixed("backbone.") | {"head.mlp.0.weight": torch.ones(2, 2)}


@pytest.mark.parametrize(
    ("content", "entry", "found"),
    [
        ({"state_dict": prefixed("model."), "epoch": 3}, None, "state_dict/model"),
        ({"state_dict": prefixed("model.")}, "state_dict", "state_dict/model"),
        ({"state_dict": prefixed("model.")}, "model", "state_dict/model"),
        ({"state_dict": prefixed("model.")}, "state_dict.model", "state_dict/model"),
        ({"state_dict": prefixed("model.")}, "state_dict/model", "state_dict/model"),
        ({"state_dict": prefixed("model._orig_mod.")}, None, "state_dict/model"),
        ({"model": prefixed("_orig_mod.module.")}, None, "model/module"),
        ({f"{k[0]}._orig_mod{k[1:]}": v for k, v in state().items()}, None, ""),
        ({"teacher": HEADED}, None, "teacher/backbone"),
        ({"teacher": {f"module.{k}": v for k, v in HEADED.items()}}, None,
         "teacher/module.backbone"),
        ({"teacher": HEADED, "student": prefixed("module.backbone.")}, "teacher",
         "teacher/backbone"),
        ({"state_dict": prefixed("module.encoder_q.")}, None, "state_dict/module.encoder_q"),
        ({"state_dict": prefixed("module.encoder_q.") | prefixed("module.encoder_k.")},
         "encoder_q", "state_dict/module.encoder_q"),
        ({"run": {"ema": {"net": state()}}, "opt": {0: {"w": torch.ones(1)}}}, None,
         "run/ema/net"),
    ],
)  # fmt: skip
def test_a_network_is_found_in_what_wraps_it(
    content: dict[str, object], entry: str | None, found: str
) -> None:
    where = WeightsSource(Path("w.pth"), entry)
    chosen = parts.choose(network(), content, name="m", source=where)
    assert chosen.entry == found
    assert all(torch.equal(chosen.tensors[key], value) for key, value in state().items())
    again = parts.choose(
        network(), content, name="m", source=WeightsSource(Path("w.pth"), found or None)
    )
    assert again.entry == found


def test_what_is_dropped_is_told(tmp_path: Path) -> None:
    heads = {"fc.weight": torch.ones(2, 4), "fc.bias": torch.ones(2)}
    torch.save({"state_dict": {f"model.{k}": v for k, v in (state() | heads).items()}
                | {"criterion.weight": torch.ones(2)}}, tmp_path / "w.ckpt")  # fmt: skip
    with files.listening() as told:
        filled = model_zoo.fill(network(), tmp_path / "w.ckpt", name="m")
    assert all(torch.equal(v, state()[k]) for k, v in filled.state_dict().items())
    assert told.dropped == ["fc (2 tensors)", "criterion (1 tensor)"]
    assert told.filled == [WeightsSource(tmp_path / "w.ckpt", "state_dict/model")]
    assert list(told.read) == [tmp_path / "w.ckpt"]


def test_no_other_key_is_dropped() -> None:
    content = {"state_dict": prefixed("model.") | {"model.decoder.weight": torch.ones(1)}}
    with pytest.raises(UserError, match=r"w\.pth#state_dict/model does .* 1 unexpected \(decoder"):
        parts.choose(network(), content, name="m", source=source())
    parts.choose(network(), content, name="m", source=source(), leftovers=("decoder.*",))


def test_two_parts_that_fit_are_not_chosen_between() -> None:
    content = {"encoder": state(), "target_encoder": state()}
    with pytest.raises(UserError, match=r"several networks .*I-JEPA.*m=w\.pth#target_encoder$"):
        parts.choose(network(), content, name="m", source=source())
    moco = {"state_dict": prefixed("module.encoder_q.") | prefixed("module.encoder_k.")}
    with pytest.raises(
        UserError, match=r"MoCo .*: --weights m=w\.pth#state_dict/module\.encoder_q$"
    ):
        parts.choose(network(), moco, name="m", source=source())


def test_no_part_that_fits_is_told_by_the_nearest() -> None:
    content = {
        "encoder": {"a.w": torch.ones(1)},
        "ema": {k: v for k, v in state().items() if k != "0.bias"},
    }
    with pytest.raises(
        UserError, match=r"w\.pth#ema does not fit model 'm': 1 missing \(0\.bias\)"
    ):
        parts.choose(network(), content, name="m", source=source())
    with pytest.raises(UserError, match=r"w\.pth#x does not fit .*encoder, ema\); name one of its "
                       r"parts: w\.pth#ema"):  # fmt: skip
        parts.choose(network(), content, name="m", source=WeightsSource(Path("w.pth"), "x"))


def test_messages_stay_short() -> None:
    long = {f"{'deep.' * 300}{number}": torch.ones(1) for number in range(1000)}
    for content in (long, {"state_dict": long}, state() | long, {"model": {"0.weight": None}}):
        with pytest.raises(UserError) as told:
            parts.choose(network(), content, name="m", source=source())
        assert len(str(told.value)) < 1500


def test_the_helper_of_the_guide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = network()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    assert model_zoo.fill(plain, "random", name="m") is plain
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())
    with pytest.raises(UserError, match="no weights for model 'm'; pass --weights m=PATH"):
        model_zoo.fill(plain, None, name="m")
    torch.save(state(), tmp_path / "m.pth")
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    filled = model_zoo.fill(plain, None, name="m")
    assert torch.equal(filled.state_dict()["0.weight"], state()["0.weight"])


# ---- damage ---------------------------------------------------------------------------------


def test_a_flipped_bit_in_torchs_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(state(), path)
    whole = path.read_bytes()
    start = whole.index(state()["0.weight"].numpy().tobytes())
    path.write_bytes(whole[: start + 5] + bytes([whole[start + 5] ^ 4]) + whole[start + 6 :])
    assert torch.load(path, weights_only=True)  # torch itself does not look
    with pytest.raises(UserError, match=r"w\.pt is damaged: the checksum of .* is wrong; download"):
        files.read(path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_no_weights(dtype: torch.dtype) -> None:
    tensors = state() | {"0.bias": torch.ones(4).to(dtype)}
    with pytest.raises(
        UserError, match=r"w\.pth holds \w+ in 0\.bias where the network has float32"
    ):
        files.fill(network(), tensors, name="m", source=source())


def test_a_counter_is_an_integer_of_any_width() -> None:
    tensors = state() | {"1.num_batches_tracked": torch.tensor(3, dtype=torch.int32)}
    assert files.fill(network(), tensors, name="m", source=source())[1].num_batches_tracked == 3
    wrong = state() | {"1.num_batches_tracked": torch.tensor(3.0)}
    with pytest.raises(UserError, match=r"holds float32 in 1\.num_batches_tracked where .* int64"):
        files.fill(network(), wrong, name="m", source=source())


def test_a_changed_dtype_in_a_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state(), path)
    whole = path.read_bytes()
    for old, new in ((b'"F32"', b'"I32"'), (b'"F32"', b'"U32"')):
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(UserError, match=r"holds u?int32 in .* quantised"):
            model_zoo.fill(network(), path, name="m")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state().items()}
    save_file(halves, path)
    model_zoo.fill(network(), path, name="m")
    path.write_bytes(path.read_bytes().replace(b'"F16"', b'"BF16"', 1).replace(b"}}  ", b"}} ", 1))
    with pytest.raises(UserError, match=r"both float16 and bfloat16|cannot be read"):
        model_zoo.fill(network(), path, name="m")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00v", r"is a NumPy array; save"),
        (b"\x89HDF\r\n", r"is an HDF5 file \(Keras\)"),
        (b"\x1f\x8b\x08", r"compressed with gzip; unpack"),
        (b'{"model_type": "vit"}', r"is a JSON file, but not an index of weights .*; name the"),
        (b'{"metad":{"a": 1}}', r"is a JSON file, but not an index of weights"),
        (b"<?xml version", r"is a web page"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "w.bin")


def test_other_archives_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("run/model.pth", b"x")
    with pytest.raises(UserError, match="is a zip archive, but not a checkpoint of torch; unpack"):
        files.read(tmp_path / "w.pt")


# ---- several files --------------------------------------------------------------------------


def write_shards(folder: Path) -> Path:
    """A checkpoint in two files and its index."""
    folder.mkdir(exist_ok=True)
    tensors, names = state(), {}
    for number, keys in enumerate((list(tensors)[:3], list(tensors)[3:]), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        save_file({key: tensors[key] for key in keys}, folder / name)
        names |= dict.fromkeys(keys, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


def test_an_index_stands_for_all_of_its_files(tmp_path: Path) -> None:
    index = write_shards(tmp_path / "run")
    for place in (index, index.parent):
        with files.listening() as told:
            filled = model_zoo.fill(network(), place, name="m")
        assert all(torch.equal(v, state()[k]) for k, v in filled.state_dict().items())
        assert told.filled == [WeightsSource(index, "")]
        assert len(told.read) == 3
    before = files.digest(index)
    shard = index.parent / "model-00002-of-00002.safetensors"
    changed = load_file(shard)
    changed["1.running_var"] += 1
    save_file(changed, shard)
    assert files.digest(index) != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", r"index\.json names model-00002-of-00002\.safetensors, which is not in"),
        ("stray", r"model-00003-of-00003\.safetensors is a part .* does not name; remove it"),
        ("unindexed", r"00002\.safetensors does not hold what .*1 unexpected \(more\)"),
        ("outside", r"names the file '\.\./x\.safetensors', which is not beside it"),
        ("no index", r"holds model-00001-of-00002\.safetensors and other parts .* not their index; "
                     r"copy model\.safetensors\.index\.json there"),
        ("named", r"is one of 2 parts of a checkpoint; name their index .*index\.json"),
    ],
)  # fmt: skip
def test_shards_that_do_not_go_together(tmp_path: Path, name: str, message: str) -> None:
    index = write_shards(tmp_path / "run")
    second, place = index.parent / "model-00002-of-00002.safetensors", index.parent
    if name == "missing":
        second.unlink()
    elif name == "stray":
        shutil.copy(second, index.parent / "model-00003-of-00003.safetensors")
    elif name == "unindexed":
        save_file(load_file(second) | {"more": torch.ones(1)}, second)
    elif name == "outside":
        text = index.read_text().replace("model-00002-of-00002", "../x")
        index.write_text(text)
    elif name == "no index":
        index.unlink()
    else:
        place = second
    with pytest.raises(UserError, match=message):
        model_zoo.fill(network(), place, name="m")


# ---- what is given to wrappers of others ----------------------------------------------------


def test_the_content_of_weights_is_known_whatever_it_is(tmp_path: Path) -> None:
    file, folder = tmp_path / "w.onnx", tmp_path / "saved"
    file.write_bytes(b"one")
    first = files.content_digest(file)
    file.rename(tmp_path / "other.onnx")
    assert files.content_digest(tmp_path / "other.onnx") == first
    assert files.content_digest(f"{tmp_path / 'other.onnx'}#part") != first
    (tmp_path / "other.onnx").write_bytes(b"two")
    assert files.content_digest(tmp_path / "other.onnx") != first
    (folder / "variables").mkdir(parents=True)
    (folder / "graph.pb").write_bytes(b"g")
    before = files.content_digest(folder)
    (folder / "variables" / "0").write_bytes(b"v")
    assert files.content_digest(folder) != before
    assert files.content_digest("hub:some/model") != files.content_digest("hub:other/model")
