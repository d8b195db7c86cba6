"""LaTeX as a compiler sees it, where there is one, and else as far as its grammar tells."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCUMENT = r"""
\documentclass[twocolumn]{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
Words.
%s
\end{document}
"""


def compiler() -> str:
    """The first LaTeX compiler of this machine that has what our tables ask for."""
    for name in ("pdflatex", "lualatex", "xelatex"):
        found, finder = shutil.which(name), shutil.which("kpsewhich")
        if found and finder:
            for package in ("booktabs.sty", "graphicx.sty", "geometry.sty"):
                if subprocess.run([finder, package], capture_output=True).returncode:
                    pytest.skip(f"{name} is here, but not {package}")
            return found
    pytest.skip("no LaTeX compiler on this machine (Debian: texlive-latex-recommended)")


def compiled(folder: Path, *tables: str) -> str:
    """The compiler's log."""
    (folder / "doc.tex").write_text(DOCUMENT % "\n".join(tables), encoding="utf-8")
    words = [compiler(), "-interaction=nonstopmode", "-halt-on-error", "doc.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "doc.pdf").stat().st_size > 5000
    return (folder / "doc.log").read_text(errors="replace").replace("\n", "")


def check_latex(text: str) -> None:
    """What a compiler would refuse: braces, environments, counts of cells, bare specials."""
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    opened = re.findall(r"\\begin\{([a-z*]+)\}", text)
    assert opened == list(reversed(re.findall(r"\\end\{([a-z*]+)\}", text)))
    assert opened in (["table*", "tabular"], ["table", "tabular"])
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) > 2
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1
    plain = re.sub(r"\$(\\pm|\\dagger|-|<|>)\$", "", text.split("\n", 1)[1])
    assert not re.search(r"(?<!\\)[%$#_^~]", plain)
    assert plain.isascii()
