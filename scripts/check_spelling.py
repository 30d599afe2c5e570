"""Check the spelling of all pages: English by codespell, Chinese terms by docs/zh/terms.csv.

    python scripts/check_spelling.py

terms.csv has, for each English term, the one Chinese term that our pages use, and what is not used
in its place: other translations, and what is typed by mistake. Exits with 1 where one is found.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHINESE = ROOT / "docs" / "zh"
TERMS = CHINESE / "terms.csv"
FULL_WIDTH = re.compile(r"[一-鿿][,;:?!](?=[一-鿿]|\s|$)|[一-鿿]\.(?=\s|$)")
"""Half-width punctuation behind a Chinese character."""


def main() -> None:
    found = list(wrong_terms())
    print("".join(f"{line}\n" for line in found), end="")
    spelled = subprocess.run([sys.executable, "-m", "codespell_lib", "."], cwd=ROOT)
    sys.exit(1 if found or spelled.returncode else 0)


def wrong_terms() -> Iterator[str]:
    """A line for each wrong term and each mark of half width on a Chinese page."""
    terms = {wrong: right for right, every in read_terms() for wrong in every}
    for file in sorted(CHINESE.rglob("*.md")):
        for number, line in enumerate(prose(file.read_text(encoding="utf-8")), 1):
            place = f"{file.relative_to(ROOT)}:{number}"
            for wrong, right in terms.items():
                if wrong in line:
                    yield f"{place}: {wrong} ==> {right}"
            for mark in FULL_WIDTH.findall(line):
                yield f"{place}: {mark} ==> a mark of full width"


def read_terms() -> list[tuple[str, list[str]]]:
    """Each Chinese term, with what is not said in its place."""
    with TERMS.open(encoding="utf-8", newline="") as file:
        return [(row["chinese"], row["wrong"].split("；")) for row in csv.DictReader(file)]


def prose(text: str) -> list[str]:
    """The lines of a page, those of code blocks and what is quoted as code made empty."""
    blank = re.sub(
        r"^```.*?^```$", lambda found: "\n" * found[0].count("\n"), text, flags=re.S | re.M
    )
    return re.sub(r"`[^`\n]*`", "`", blank).splitlines()


if __name__ == "__main__":
    main()
