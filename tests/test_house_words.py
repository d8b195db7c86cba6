"""Words of our own making that a new reader has to learn: their number may only fall.

`house_words.json` holds how often each occurs. After some were replaced:

    python tests/test_house_words.py

writes the lower numbers into it, and never a higher one.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
STORED = Path(__file__).with_name("house_words.json")
OTHERS = {"tests/test_house_words.py", "CHANGELOG.md"}
# Pages whose words are in our code.
WRITTEN_BY_US = re.compile(r"results/(real|nano|regression|dense|transfer|finetune)/(?!README)")
PROSE = (".md", ".j2")
PATTERNS = [f"*{suffix}" for suffix in PROSE]


class Word(NamedTuple):
    """One house word, and what to write in its place."""

    pattern: str
    better: str
    prose_only: bool = False
    """Names in code are left alone."""


_COUNTED = (
    "probes?|images?|rows?|lines?|numbers?|(sub-)?folders?|files?|entry|entries|values?|seconds?|"
    "bytes|processes|JSON|bars?|panels?|columns?|labels?|sentences?|vectors?|heads?|draws?|jobs?"
)
_EACH = (
    "cell|image|task|model|number|seed|batch|epoch|step|group|class|file|row|frame|problem|column|"
    "unit|set|split|video|patient|token|head|protocol|metric"
)
WORDS = {
    "floor": Word(r"(?<!math\.)(?<!np\.)\bfloors?\b", "control, trivial baseline"),
    "told apart": Word(r"\btold\s+apart\b", "(not) significantly different"),
    "letters": Word(r"\bletters\b", "significance groups", prose_only=True),
    "cell": Word(r"\bcells?\b", "result", prose_only=True),
    "on a task each": Word(r"\bon\s+a\s+task\s+each\b", "one job per (model, task) pair"),
    "had from": Word(r"\bhad\s+from\b", "download source, available from"),
    "to be had": Word(r"\b(is|are|to\s+be)\s+had\b(?!\s+from)", "available"),
    "mend": Word(r"\bmend(s|ed|ing)?\b", "fix"),
    "stands in, beside": Word(r"\bstands?\s+(in|beside)\b", "appears in, is listed next to"),
    "part of the training images": Word(
        r"\bparts?\s+of\s+the\s+training\s+images\b", "training subset, fraction"
    ),
    "a ... a ...": Word(rf"\b({_COUNTED})\s+an?\s+({_EACH})\b", "per"),
    "drawn anew": Word(r"\bdrawn\s+anew\b", "resampled"),
    "anew": Word(r"(?<!drawn )\banew\b", "again"),
    "what it can tell": Word(
        r"\bwhat\s+(it|a\s+task|each\s+task)\s+can\s+tell\b", "whether it discriminates"
    ),
    "what is left": Word(r"\bwhat\s+is\s+left\s+of\b", "retained performance"),
    "as unpacked": Word(r"\bas\s+unpacked\b", "original download, unzipped"),
    "all there": Word(r"\ball\s+(\w+\s+)?are\s+there\b|\bnot\s+here\b", "found, missing"),
    "goes on where": Word(r"\bgo(es)?\s+on\s+(where|from)\b", "resumes"),
    "for want of": Word(r"\bfor\s+want\s+of\b", "because ... is not available"),
    "for (because)": Word(r"[,;]\s+for\s+(it|they|there|nobody|not)\b", "because"),
    "is no": Word(r"\bis\s+no\s+(?!longer\b|more\b|such\b|need\b|word\b)", "is not a"),
}


def found() -> dict[str, dict[str, int]]:
    """How often each word occurs, by file."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", *PATTERNS],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for name in sorted(set(listed) - OTHERS):
        path = ROOT / name
        if WRITTEN_BY_US.match(name) or not path.is_file():  # deleted, not yet committed
            continue
        text = path.read_text(encoding="utf-8")
        for word, how in WORDS.items():
            if how.prose_only and path.suffix not in PROSE:
                continue
            if count := len(re.findall(how.pattern, text, re.IGNORECASE)):
                counts[word][name] = count
    return counts


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_house_word_is_used_more_often_than_before() -> None:
    stored = json.loads(STORED.read_text())
    assert stored.keys() == WORDS.keys()
    more = [
        f"'{word}' occurs {sum(files.values())} times, at most {stored[word]} are allowed: write "
        f"'{WORDS[word].better}' instead; it is in {files}"
        for word, files in found().items()
        if sum(files.values()) > stored[word]
    ]
    assert not more, "\n".join(more)


def test_each_word_is_recognised() -> None:
    examples = {
        "a ... a ...": "one JSON file a number",
        "for (because)": "left out, for it is wide",
        "stands in, beside": "it stands beside",
        "all there": "all cells are there",
        "on a task each": "a model on a task each",
        "goes on where": "a run goes on where it was",
        "is no": "BUSI is no folder",
        "what it can tell": "what a task can tell",
        "what is left": "what is left of the score",
    }
    for word, how in WORDS.items():
        assert re.search(how.pattern, examples.get(word, f"It is {word} here."), re.IGNORECASE), (
            word
        )


def update() -> None:
    """Write lower numbers into the stored ones; the first time, all."""
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    now = {word: sum(files.values()) for word, files in found().items()}
    for word in WORDS:
        stored[word] = min(now.get(word, 0), stored.get(word, 10**9))
    STORED.write_text(json.dumps({word: stored[word] for word in WORDS}, indent=1) + "\n")


if __name__ == "__main__":
    update()
