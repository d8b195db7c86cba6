"""What `mkdocs.yml` needs besides the guides: pages that are made of the code, and their links.

The commands are read from Typer, the messages from each `raise UserError(...)`, and the Python
interface by mkdocstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ultrabench_eval", "model_zoo", "tasks", "usjepa")
# Where users begin; all else is reached from these.
MODULES = (
    *("ultrabench_eval.pipeline", "ultrabench_eval.request", "ultrabench_eval.protocol"),
    *("ultrabench_eval.metrics", "ultrabench_eval.probes.probe"),
    *("ultrabench_eval.task_types.task_type", "model_zoo", "model_zoo.encoder"),
    *("model_zoo.transforms", "model_zoo.cards", "tasks", "tasks.task", "tasks.samples.images"),
    *("usjepa.config", "usjepa.objective"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of the code."""
    python = "# Python\n\n" + "\n".join(f"::: {name}\n" for name in MODULES)
    pages = {"commands": commands(), "messages": messages(), "python": python}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A link to a file that is not a page of the site becomes the path in the repository."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)


def commands() -> str:
    """A section for each command: its help, arguments and options."""
    import typer

    import usjepa.cli
    from ultrabench_eval import cli

    text = ["# Commands"]
    for program, app in (("ubench", cli.app), ("usjepa", usjepa.cli.app)):
        text += _command(program, typer.main.get_command(app))
    return "\n\n".join(text) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}"
    yield _cell((command.help or "").partition("\f")[0], "\n\n")
    rows = [
        f"| {', '.join(f'`{word}`' for word in (*one.opts, *one.secondary_opts))} | "
        f"{_cell(getattr(one, 'help', '') or '')} |"
        for one in command.params
        if not getattr(one, "hidden", False)
    ]
    if rows:
        yield "\n".join(["| option | what |", "| --- | --- |", *rows])
    for below, one in sorted(getattr(command, "commands", {}).items()):
        if not one.hidden:
            yield from _command(f"{name} {below}", one)


def _cell(text: str, paragraphs: str = " ") -> str:
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return paragraphs.join(parts).replace("|", "\\|").replace("<", "&lt;")


def messages() -> str:
    """The sentences with which input is refused, by module; `{...}` is filled in."""
    text = ["# Messages", "What is wrong with an input, in the words of the commands."]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found = [*dict.fromkeys(_raised(ast.parse(path.read_text(encoding="utf-8"))))]
            if found:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                text += [
                    f"## {module}",
                    "\n".join(f"- {_cell(one)}".replace("[", "\\[") for one in found),
                ]
    return "\n\n".join(text) + "\n"


def _raised(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args:
            text = _text(node.args[0])
            if text.strip("{}"):
                yield text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "{" + ast.unparse(node) + "}"
