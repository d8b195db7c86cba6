"""A written page, taken apart."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """Tags, attributes and texts of a page, its data, and the texts of its table's rows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.data: dict[str, Any] = {}
        self._open: list[str] = []
        self._json = ""
        self.feed(text)
        self.data = json.loads(self._json)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "br", "input", "img"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._open):
            self._json += data if self.tags[-1][1].get("id") == "data" else ""
            return
        self.texts.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """What is there without script."""
        return " ".join(" ".join(self.texts).split())

    @property
    def said(self) -> str:
        """That, and all texts that the script can show."""
        return " ".join([self.text, *_strings(self.data)])

    @property
    def sections(self) -> dict[str, list[dict[str, Any]]]:
        """Parts of the sections that are opened, by id."""
        return {one["id"]: one["parts"] for one in self.data["sections"]}

    def figures(self) -> dict[str, str]:
        """SVG files by what is said of them."""
        parts = [part for some in self.sections.values() for part in some if "svg" in part]
        return {p["alt"]: zlib.decompress(base64.b64decode(p["svg"])).decode() for p in parts}

    def main(self, probing: str = "") -> list[dict[str, Any]]:
        """The views of the main condition, with names in place of numbers."""
        names = [one["name"] for one in self.data["models"]]
        tasks = [one["name"] for one in self.data["tasks"]]
        return [
            one
            | {
                "rows": {names[m]: scores for m, scores in one["rows"]},
                "tasks": [tasks[t] for t in one["tasks"]],
            }
            for one in self.data["views"]
            if one["main"] and probing in one["probing"]
        ]

    def values(self, name: str) -> list[str]:
        """Of an attribute, in all tags."""
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def read(out: Path) -> Page:
    return Page((out / "leaderboard.html").read_text("utf-8"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
