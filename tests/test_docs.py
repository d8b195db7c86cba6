"""README and guides: every command and Python block in them is run, every link leads somewhere.

A page is gone through from top to bottom in a folder of its own, where DATA, FRAMES and what else
it speaks of are small and simulated. `doc_commands.COMMANDS` says for every command what is put in
its place; one that cannot be run here is only parsed, so that it and all its options are known to
exist. A command or block that the tables do not know fails the test of its page.
"""

from __future__ import annotations

import importlib.util
import io
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import matplotlib
import numpy as np
import PIL.Image
import pytest
import timm
import torch
import typer
import yaml
from conftest import forget_plugins, make_manifest
from dicom_files import make_examinations
from doc_commands import CODE, COMMANDS, EVERY, MY_TRAINING, TRAINING, Code, Parse
from test_cli import clean

import model_zoo
import ultrabench_eval
import usjepa.cli
from ultrabench_eval import cli
from ultrabench_eval.report.paper import claims, published
from ultrabench_eval.stats import bootstrap

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
PROGRAMS = {"ubench": cli, "usjepa": usjepa.cli}
OF_COMMANDS = ("", "sh", "console")  # languages of blocks


# ---- pages ---------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Of a page, between fences."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """One a line, without comments; those joined by && apart."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = [part for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&")]
        return [" ".join(part.split()) for part in found if part.strip()]


def blocks(page: str) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)
    return [Block(*one) for one in found]


def commands(page: str) -> list[str]:
    return [
        command for one in blocks(page) if one.language in OF_COMMANDS for command in one.commands
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(
    tmp_path: Path, phantom_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A working folder with all that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    for name, content in clean({"UBENCH_CACHE": str(cache)}).items():
        monkeypatch.setenv(name, content)
    for name in ("UBENCH_DATA", "UBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("my_scans", "their"):
        make_manifest(tmp_path / f"{name}.csv")
    _make_masks(tmp_path / "my_masks.csv", tmp_path / "my_scans.csv")
    _make_cines(tmp_path / "my_videos.csv", tmp_path / "my_scans.csv")
    for folder in ("DATA", "FRAMES"):
        Path(folder).mkdir()
    for name in ("aul", "hc18", "ultrabench_splits"):
        Path("DATA", name).symlink_to(phantom_root / name)
    Path("FRAMES", "livers").symlink_to(phantom_root / "aul" / "Benign" / "image")
    (tmp_path / "PRETRAINING_IMAGES").symlink_to(tmp_path / "my_scans_images")
    _make_shades(tmp_path / "DATA" / "shades")
    Path("names.yaml").write_text("mine: Mine\n")
    make_examinations(tmp_path)
    Path("new_dicom").symlink_to("dicom")
    for patient in range(10):
        folder = Path("scans", "ab"[patient % 2])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"my_scans_images/{patient}.png", folder / f"P{patient}_0.png")
    Path("small.yaml").write_text(yaml.safe_dump(TRAINING))
    tensors = timm.create_model("test_vit", num_classes=0).state_dict()
    torch.save(tensors, "checkpoint.pt")
    tensors = {f"model.{key}": value for key, value in tensors.items()}
    torch.save({"state_dict": tensors, "pytorch-lightning_version": "2.5.5"}, "last.ckpt")
    Path("new_scans").symlink_to("my_scans_images")
    scans = [line.split(",") for line in Path("my_scans.csv").read_text().splitlines()[1:]]
    test = [f"{image},{label}" for image, label, split, _ in scans if split == "test"]
    Path("as_one.csv").write_text("\n".join(["image,prediction", *test]))
    Path("my_training.py").write_text(MY_TRAINING)
    yield tmp_path
    forget_plugins()
    sys.modules.pop("my_training", None)


def _make_cines(path: Path, scans: Path) -> None:
    """A table of videos, each of three scans of one patient."""
    rows = ["video,label,split,group"]
    listed = [row.split(",") for row in scans.read_text().splitlines()[1:]]
    for number, (_, label, split, group) in enumerate(listed[::3]):
        folder = path.parent / "videos" / str(number)
        folder.mkdir(parents=True)
        for image, *_ in listed[3 * number : 3 * number + 3]:
            (folder / Path(image).name).symlink_to(path.parent / image)
        rows.append(f"videos/{number},{label},{split},{group}")
    path.write_text("\n".join(rows) + "\n")


def _make_masks(path: Path, scans: Path) -> None:
    """A table of the scans of another, with a mask of each in place of its label."""
    rows = ["image,mask,split"]
    for row in scans.read_text().splitlines()[1:]:
        image, _, split, _ = row.split(",")
        mask = image.replace(".png", "_seg.png")
        rows.append(f"{image},{mask},{split}")
        codes = np.zeros(PIL.Image.open(path.parent / image).size[::-1], np.uint8)
        codes[10:20, 10:30] = 255
        PIL.Image.fromarray(codes).save(path.parent / mask)
    path.write_text("\n".join(rows) + "\n")


def _make_shades(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        for word, shade in (("dark", 60), ("bright", 150)):
            (folder / split / word).mkdir(parents=True)
            for number in range(count):
                pixels = generator.normal(shade, 20, (24, 24)).clip(0, 255).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / split / word / f"{number}.png")


SLOW = ("docs/first_steps.md", "docs/long_runs.md")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES]
)
def test_the_page_does_what_it_says(
    page: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = iter(CODE.get(page, ()))
    if page != "docs/add_your_model.md":
        first = next(one for one in blocks("docs/add_your_model.md") if one.language == "python")
        do_code(CODE["docs/add_your_model.md"][0], first.text)
    for block in blocks(page):
        if block.language == "python":
            do_code(next(code, None), block.text)
        elif block.language in OF_COMMANDS:
            for command in block.commands:
                do_command(command, monkeypatch)
    assert next(code, None) is None, f"{page} has fewer Python blocks than CODE"
    if page == "docs/first_steps.md":
        check_table_of_files(Path("runs/real"))


def do_code(how: Code | None, text: str) -> None:
    assert how is not None, f"CODE does not say what to do with\n{text}"
    for old, new in how.swaps.items():
        assert old in text
        text = text.replace(old, new)
    if how.file:
        with Path(how.file).open("a") as file:
            file.write(text)
        return
    path = Path("block.py")
    path.write_text(text)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        runpy.run_path(str(path))


def do_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command in COMMANDS, f"COMMANDS does not say what to do with: {command}"
    how, words = COMMANDS[command], shlex.split(command, comments=True)
    parse(words)
    if isinstance(how, Parse):
        return
    words = how.words(words)
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
        return
    forget_plugins()  # as a process of its own would
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            PROGRAMS[words[0]].main()
        except SystemExit as stop:
            code = stop.code or 0
    assert code == 0, f"{command}\nas {words}\n{out.getvalue()}\n{err.getvalue()}"


def check_table_of_files(run: Path) -> None:
    """What a guide says a run holds is there."""
    text = (ROOT / "docs" / "what_a_run_writes.md").read_text()
    table = text.partition("| file | what |")[2].partition("\n\n")[0]
    names = re.findall(r"`([\w./]+(?:\.\w+|/))`", table)
    assert len(names) >= 12
    # Of controls alone, on test sets with fewer than five images of a class, nothing is compared;
    # and there is one protocol, one data set at a time, and no subgroup.
    assert [name for name in names if not (run / name).exists()] == [
        *("choose.md", "pairs.csv", "ranks.csv", "places.csv", "transfer.csv", "subgroups.csv"),
    ]
    assert "fewer than 5" in (run / "leaderboard.md").read_text()


# ---- what exists ---------------------------------------------------------------------------------


def parse(words: Sequence[str]) -> None:
    """See that a command is there and takes its words."""
    if words[0] in PROGRAMS:
        command_of(words[0]).make_context(words[0], [*words[1:]])
        _, parent, rest = below(words)
        parent.make_context("", rest)
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
    elif words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        given = get_args_parser().parse_args([*words[1:]])
        assert given.module
        parse([given.training_script, *given.training_script_args])
    elif words[:2] == ["pip", "wheel"]:
        assert words[2:] == ["--no-deps", "--wheel-dir", ".", "."]
    elif words[0] == "pip":
        assert words[1] in ("install", "download")
        check_installed([word for word in words[2:] if word != "wheels"])
    elif words[0] in ("uv", "pipx"):
        check_installed([word for word in words[1:] if word.endswith(("whl", "]"))])
    else:
        assert words[0] in ("git", "cd", "source", "export"), f"what is {words[0]}?"


WHEEL = r"\./ultrabench_eval-([\d.]+)-py3-none-any\.whl(?:\[([\w,]+)\])?"


def check_installed(words: Sequence[str]) -> None:
    """See that `pip install` names our wheel with extras that it has, or packages that we need:
    the project itself is on no index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    known = {re.split(r"[\[<>=;]", line)[0].strip().lower() for line in listed}
    for word in words:
        if wheel := re.fullmatch(WHEEL, word):
            assert wheel[1] == ultrabench_eval.__version__
            assert {*filter(None, (wheel[2] or "").split(","))} <= extras.keys()
        elif not word.startswith("-"):
            name = re.split(r"[<>=]", word)[0].lower()
            assert name in known - {project["name"]}, f"pip install {word}?"


def command_of(program: str) -> Any:
    return typer.main.get_command(PROGRAMS[program].app)


def below(words: Sequence[str]) -> tuple[str, Any, list[str]]:
    """The command at the end of `ubench data check ...`, and its words."""
    name, command, rest = words[0], command_of(words[0]), [*words[1:]]
    while hasattr(command, "commands"):
        name = f"{name} {rest[0]}"
        found = command.commands.get(rest.pop(0))
        assert found is not None, f"there is no {name}"
        command = found
    return name, command, rest


def options(command: Any) -> set[str]:
    if hasattr(command, "commands"):
        return set().union(*(options(one) for one in command.commands.values()))
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "examples/plugin/README.md"])
def test_commands_and_options_in_sentences_exist(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.S | re.M)
    every = options(command_of("ubench")) | options(command_of("usjepa"))
    for span in re.findall(r"`([^`]+)`", text):
        words = " ".join(span.split()).split(" ")
        if words[0] in PROGRAMS and len(words) > 1:
            name, command, rest = below(words)
            known = options(command)
        else:
            name, known, rest = "ubench or usjepa", every, words
        for word in rest:
            if re.fullmatch(r"--[a-z][a-z-]*", word):
                assert word in known, f"{page}: {name} has no {word}"


def test_the_tables_know_nothing_that_is_gone() -> None:
    shown = {command for page in PAGES for command in commands(page)}
    assert set(COMMANDS) - shown == set()
    assert set(CODE) <= set(PAGES)


def test_the_plugin_shown_is_the_example_and_has_at_most_15_lines() -> None:
    shown = next(one.text for one in blocks("README.md") if "model_zoo.register" in one.text)
    assert shown == (ROOT / "examples" / "plugin" / "their_model.py").read_text()
    guide = next(one.text for one in blocks("docs/add_your_model.md") if one.language == "python")
    for text in (shown, guide):
        assert len([line for line in text.splitlines() if line.strip()]) <= 15


def test_every_language_of_a_block_is_known() -> None:
    used = {block.language for page in PAGES for block in blocks(page)}
    assert used <= {*OF_COMMANDS, "python", "csv", "text", "bibtex", "yaml"}


def test_weights_and_licences_are_those_of_the_cards() -> None:
    text = (ROOT / "docs" / "reproduce_the_paper.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` (\|.*)$", text, re.M))
    assert list(rows) == EVERY.split(",")
    for name, row in rows.items():
        card = model_zoo.card(name)
        assert row == f"| {card.weights_from} | {card.weights_licence} |"


def test_claims_are_counted_as_they_fare() -> None:
    tested = claims.judge_all([], published.load())
    fare = Counter(one.tables.verdict for one in tested)
    text = " ".join((ROOT / "docs" / "reproduce_the_paper.md").read_text().split())
    assert f"tests {len(tested)} statements of the paper" in text
    assert (
        f"{fare['holds']} hold, {fare['fails']} fail, and {fare['not measured']} need numbers"
    ) in text


# ---- links and pictures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [*PAGES, "CONTRIBUTING.md", "examples/plugin/README.md", "results/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.resolve().is_relative_to(ROOT), f"{page}: {target}"
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: {target}"


def anchors(path: Path) -> set[str]:
    """Names by which a hosting site links to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_guide_is_in_the_list_and_on_the_site() -> None:
    index, site = (ROOT / "docs" / "README.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        if path.name != "README.md":
            assert f"]({path.name})" in index
            assert f"- {path.name}\n" in site.replace("[", "- ").replace("]", "\n")


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 600


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_its_command_draws(tmp_path: Path) -> None:
    shown = (ROOT / "docs" / "pictures" / "leaderboard.svg").read_bytes()
    assert len(shown) < 300_000
    assert "`python docs/pictures/leaderboard.py`" in (ROOT / "README.md").read_text()
    script("docs/pictures/leaderboard.py").main(tmp_path / "new.svg")
    drawn = (tmp_path / "new.svg").read_bytes()
    if f"Matplotlib v{matplotlib.__version__}".encode() in shown:  # else its lines differ
        assert drawn == shown
    assert drawn.startswith(b"<?xml")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = pytest.importorskip("mkdocs.commands.build")
    config = importlib.import_module("mkdocs.config").load_config
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build.build(config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    reference = tmp_path / "reference"
    assert "--fewshot-validation" in (reference / "commands.html").read_text()
    assert "has no pooling" in (reference / "messages.html").read_text()
    assert "ultrabench_eval.pipeline.run" in (reference / "python.html").read_text()
    assert 'src="https://' not in (tmp_path / "index.html").read_text()
