"""No word of our own making that a new reader has to learn, and no habit of a dialect."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
OTHERS = {"tests/test_house_words.py", "CHANGELOG.md"}
# Pages whose words are in our code.
WRITTEN_BY_US = re.compile(
    r"results/(real|nano|regression|dense|transfer|finetune|video|audit)/(?!README)"
)
PROSE = (".md", ".j2")
PATTERNS = [*(f"*{suffix}" for suffix in PROSE), "usjepa/configs/*.yaml"]


class Word(NamedTuple):
    """One house word, and what to write in its place."""

    pattern: str
    better: str
    prose_only: bool = False
    """Names in code are left alone."""


_COUNTED = (
    "probes?|images?|rows?|lines?|numbers?|(sub-)?folders?|files?|entry|entries|values?|seconds?|"
    "bytes|processes|JSON|bars?|panels?|columns?|labels?|sentences?|vectors?|heads?|draws?|jobs?|"
    "minutes?|ms|GiB|views?|comparisons?|GPUs?|tasks?"
)
_EACH = (
    "cell|image|task|model|number|seed|batch|epoch|step|group|class|file|row|frame|problem|column|"
    "unit|set|split|video|patient|token|head|protocol|metric|pair|clip|worker|item"
)
_VERB = "is|are|was|were|has|have|had|does|do|did|would|will|can|cannot|may|must"
_NO_CLAUSE = r"(?:that|which|who|whom|whose|what|whatever|where|when|as|in|of|to|with|and)\b"
WORDS = {
    "floor": Word(r"(?<!math\.)(?<!np\.)\bfloors?\b", "control, trivial baseline"),
    "told apart": Word(r"\btold\s+apart\b", "(not) significantly different"),
    "letters": Word(r"\bletters\b", "significance groups", prose_only=True),
    "cell": Word(r"\bcells?\b(?!/|\.\w)", "result", prose_only=True),
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
    "for (because)": Word(
        r"[,;]\s+for\s+(it|they|there|nobody|not)\b|"
        rf"[,;]\s+for\s+(?!{_NO_CLAUSE})(?:[\w'-]+\s+(?!{_NO_CLAUSE})){{1,4}}(?:{_VERB})\b(?!-)",
        "because",
    ),
    "too": Word(r",\s+too(?=[.;:,)\"'`]|\s*$)", "too, without a comma"),
    "told": Word(
        r"\b(is|are|was|were|been)\s+told\b(?!\s+(to|not|apart|the|a)\b)", "reported, shown, stated"
    ),
    "not understood": Word(r"\b(is|are)\s+not\s+understood\b", "is not valid; write ..."),
    "does not tell": Word(r"\bdoes\s+not\s+tell\b", "does not say, state or show"),
    "passed over": Word(r"\bpass(es|ed)?\s+over\b", "ignored, skipped"),
    "in so many words": Word(r"\bin\s+so\s+many\s+words\b", "explicitly"),
    "the mere": Word(r"\bthe\s+mere\b|\bmerely\b", "only, alone"),
    "turned round": Word(r"\bturn(s|ed)?\s+(it\s+)?round\b(?!\()", "reversed"),
    "are no": Word(r"(?<!there\s)\bare\s+(no\s+(?!longer\b|more\b)\w|none\s+of\b)", "are not"),
    "is no": Word(
        r"(?<!there\s)\bis\s+no\s+(?!longer\b|higher\b|more\b|such\b|need\b)", "is not a"
    ),
}


def found() -> dict[str, dict[str, list[int]]]:
    """The lines with each word, by file."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", *PATTERNS],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    lines: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for name in sorted(set(listed) - OTHERS):
        path = ROOT / name
        if WRITTEN_BY_US.match(name) or not path.is_file():  # deleted, not yet committed
            continue
        text = path.read_text(encoding="utf-8")
        for word, how in WORDS.items():
            if how.prose_only and path.suffix not in PROSE:
                continue
            if places := [m.start() for m in re.finditer(how.pattern, text, re.IGNORECASE)]:
                lines[word][name] = [text.count("\n", 0, place) + 1 for place in places]
    return lines


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_house_word_occurs() -> None:
    some = [
        f"'{word}' occurs: write '{WORDS[word].better}' instead; it is in {files}"
        for word, files in found().items()
    ]
    assert not some, "\n".join(some)


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
        "too": "images, too.",
        "are no": "they are no files",
    }
    for word, how in WORDS.items():
        assert re.search(how.pattern, examples.get(word, f"It is {word} here."), re.IGNORECASE), (
            word
        )
    for fine in (
        "there is no file, too few images are read, and one for each model is kept",
        "for what is read; for a task that has one, for each of which it is stored",
        "`cells/` holds cells.tar.xz; it is no longer told what to do",
    ):
        assert not [word for word, how in WORDS.items() if re.search(how.pattern, fine)], fine
