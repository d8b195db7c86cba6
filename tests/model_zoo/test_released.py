"""Released checkpoints: what is opened, what is refused, and in which words.

Files are in the released layouts, but for their length and their numbers: of an encoder's blocks
they hold the first few, and a tensor of one repeated number takes no room.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from released_files import part_in_use
from torch import Tensor

import model_zoo
from model_zoo import verify
from model_zoo.checkpoints import hub
from ultrabench_eval.core.errors import UserError

NAMES = [name for name in verify.names() if name != "vjepa-vitb16"]  # as vjepa-vitl16


def a_key(name: str, part: dict[str, Tensor]) -> str:
    """A key of the encoder in the middle of the file."""
    layout = model_zoo.registry.get(name).layouts[0]
    keys = [
        key
        for key in part
        if not any(fnmatch(key.removeprefix("module."), one) for one in layout.leftovers)
        and key not in layout.constants
        and isinstance(part[key], Tensor)
        and part[key].is_floating_point()
    ]
    return keys[len(keys) // 2]


def refused(name: str, content: Any, folder: Path, message: str) -> str:
    torch.save(content, folder / "w.pth")
    try:
        model_zoo.load(name, folder / "w.pth", "cpu", "float32")
    except UserError as error:  # what `pytest.raises` keeps would keep gigabytes of networks alive
        said = str(error)
    else:
        pytest.fail(f"{name} was not refused")
    assert re.search(message, said), said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_key_removed_added_or_reshaped_is_named(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    content = light(name)
    part = part_in_use(name, content)
    key = a_key(name, part)
    value = part.pop(key)
    shown = key.removeprefix("module.backbone.").removeprefix("module.").removeprefix("model.")
    shown = shown.removeprefix("videomae.")
    extra = key.removesuffix(shown) + "extra.weight"
    said = refused(name, content, tmp_path, f"does not fit model '{name}': 1 missing")
    assert f"1 missing ({shown})" in said

    part[key] = torch.ones(1).expand(*value.shape, 2)
    said = refused(name, content, tmp_path, "1 of another shape")
    assert f"{shown}: {list(part[key].shape)}" in said  # others may follow that are joined to it

    part[key] = value
    part[extra] = torch.ones(2)
    said = refused(name, content, tmp_path, "1 unexpected")
    assert "1 unexpected (extra.weight)" in said

    del part[extra]
    part[key] = torch.full((1,), torch.nan).expand(value.shape)
    said = refused(name, content, tmp_path, "NaN or infinite numbers")
    assert f"numbers in {shown};" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_another_model_is_refused(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    # The nearest relative: the same network under other names or with other parts.
    other = {
        "dinov3": "usfm", "echocare": "sam", "ijepa": "ijepa-vitb16", "ijepa-vitb16": "usf-mae",
        "echoclip": "fetalclip", "fetalclip": "echoclip", "mobile-fetalclip": "echoclip",
        "panecho": "echoclip", "tinyusfm": "usf-mae", "ultrafedfm": "urfm",
        "sam": "samus", "samus": "sam", "ultrasam": "sam", "urfm": "ijepa-vitb16",
        "us-jepa": "usf-mae", "usf-mae": "usfm", "usfm": "usf-mae", "usrc-jepa": "dinov3",
        "vjepa-vitl16": "vjepa2-vitl",
        "vjepa2-vitl": "vjepa-vitl16", "echofm": "vjepa-vitl16", "echoprime": "panecho",
        "panecho-clip": "echoclip", "videomae": "ijepa-vitb16",
    }[name]  # fmt: skip
    said = refused(name, light(other), tmp_path, f"does not fit model '{name}': ")
    assert "(" in said  # keys, or what the file holds, are named


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_and_code_are_refused(tmp_path: Path, name: str) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (exec, ("raise SystemExit('code of a checkpoint was run')",))

    path = tmp_path / "w.pth"
    for write in (
        lambda: torch.save({"state_dict": {}, "args": Runs()}, path),
        lambda: torch.save({"args": Runs()}, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Runs(), protocol=2)),
    ):
        write()
        with pytest.raises(
            UserError, match=r"w\.pth (holds Python objects|is a pickle|cannot be read)"
        ):
            model_zoo.load(name, path, "cpu")
    torch.save({"w": torch.rand(1000)}, path)
    for part in (len(path.read_bytes()) // 2, 10, 0):
        path.write_bytes(path.read_bytes()[:part])
        with pytest.raises(UserError, match=r"w\.pth cannot be read as a checkpoint"):
            model_zoo.load(name, path, "cpu")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"w\.pth is a Git LFS pointer.*git lfs pull"):
        model_zoo.load(name, path, "cpu")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("dinov3", "rope_embed.periods"),
        ("echocare", "layers3.0.blocks.1.attn.relative_position_index"),
    ],
)
def test_tables_with_other_numbers_are_refused(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str, table: str
) -> None:
    content = light(name)
    changed = content[table].clone().flatten()
    changed[3] += 1
    content[table] = changed.view(content[table].shape)
    refused(name, content, tmp_path, f"other numbers in {table} than")


def test_decoders_tell_two_autoencoders_apart(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """Their encoders have the same keys and shapes."""
    said = refused("urfm", light("usf-mae"), tmp_path, "does not fit model 'urfm': 1 of another sh")
    assert "decoder_embed.weight: [512, 768] in the file, [768, 768] in the model" in said
    other = light("urfm")["ema_state_dict"]
    said = refused("usf-mae", other, tmp_path, "does not fit model 'usf-mae': 1 of another shape")
    assert "decoder_embed.weight: [768, 768] in the file, [512, 768] in the model" in said


# ---- the hub ------------------------------------------------------------------------------------


def test_the_hub_is_asked_only_with_consent(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=r"under: MIT, as .*--accept-license.*--weights urfm=PATH"):
        model_zoo.load("urfm", device="cpu")
    with pytest.raises(
        UserError, match=r"by hand \(where: Google Drive file.*--weights samus=PATH"
    ):
        model_zoo.load("samus", device="cpu", accept_license=True)

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(hub, "cached", lambda file: None)
    with pytest.raises(UserError, match="the hub cannot be reached from here; get mae_vit_base"):
        model_zoo.load("urfm", device="cpu", accept_license=True)

    torch.save(light("urfm"), tmp_path / "w.pth")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "w.pth")

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", download)
    encoder = model_zoo.load("urfm", device="cpu", accept_license=True)
    assert asked == [("fmassimo/URFM", "mae_vit_base_patch16_dec768d8b_all_biomedclip_1199.pth")]
    assert encoder.weights_file == tmp_path / "w.pth"

    def broken(repository: str, file: str) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(UserError, match=r"cannot be fetched \(OSError: disk full\); get it there"):
        model_zoo.load("urfm", device="cpu", accept_license=True)
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "w.pth").rename(tmp_path / "urfm-full.pth")
    assert not model_zoo.load(
        "urfm", device="cpu"
    ).random_weights  # no consent needed for one's own
