"""Build the documentation's site into site/: python scripts/build_site.py. It fetches nothing.

Gathers in build/docs what the site is made of: docs/, notebooks as pages, pages of the repository
(README.md, CHANGELOG.md, …) and those of scripts/reference.py. Links between them are followed
there, a link to a file that is no page, such as a script, is left as its text, and formulas become
MathML, which browsers draw themselves. Then MkDocs is run with --strict: no page is its alone.
"""

from __future__ import annotations

import argparse
import base64
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import notebook
from reference import pages as reference_pages

ROOT = Path(__file__).resolve().parent.parent
DOCS, GATHERED = ROOT / "docs", ROOT / "build" / "docs"
HOME = "index.md"
OF_REPOSITORY = {
    "README.md": HOME,
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Files of the repository, by the page that each becomes."""
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s#]*)(#[^)\s]*)?\)")
PARTS = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]+`)"
    r"|\$\$(?P<display>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)",
    re.S | re.M,
)
"""Code, in which nothing is a formula, and formulas."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only-gather", action="store_true", help="write build/docs, no site")
    asked = parser.parse_args()
    gather(reference_pages())
    if not asked.only_gather:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--clean"]
        # The theme says on every build until when it is kept up: CONTRIBUTING.md has that.
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
        print(f"site/index.html: {len(list(ROOT.glob('site/**/*.html')))} pages")


def gather(generated: dict[str, str]) -> None:
    """Write build/docs anew."""
    shutil.rmtree(GATHERED, ignore_errors=True)
    shutil.copytree(DOCS, GATHERED)
    for file in DOCS.rglob("*.md"):
        name = file.relative_to(DOCS).as_posix()
        text = file.read_text(encoding="utf-8")
        write(name, followed(text, posixpath.join("docs", posixpath.dirname(name)), name))
    for file in DOCS.rglob("*.ipynb"):
        page = file.relative_to(DOCS).with_suffix(".md")
        write(page.as_posix(), of_notebook(notebook.read(file), GATHERED / page.with_suffix("")))
    for name, text in {**of_repository(), **generated}.items():
        write(name, text)


def write(name: str, text: str) -> None:
    place = GATHERED / name
    place.parent.mkdir(parents=True, exist_ok=True)
    text = text.replace("<details>", '<details markdown="1">')  # else tables in it stay as they are
    place.write_text(with_formulas(text), encoding="utf-8")


def of_notebook(content: dict[str, Any], images: Path) -> str:
    """A notebook as Markdown; its images become files in the folder ``images``."""
    parts = [f"The notebook: [{images.name}.ipynb]({images.name}.ipynb)"]
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                images.mkdir(exist_ok=True)
                file = images / f"{len(list(images.iterdir())) + 1}.png"
                file.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell shows]({images.name}/{file.name})")
            else:
                parts.append(f"```\n{''.join(data['text/plain']).rstrip()}\n```")
    # A page begins with its heading.
    return "\n\n".join([parts[1], parts[0], *parts[2:]]) + "\n"


def of_repository() -> dict[str, str]:
    """The repository's own pages, with their links as the site has them."""
    return {
        page: followed((ROOT / file).read_text(encoding="utf-8"), "", page)
        for file, page in OF_REPOSITORY.items()
    }


def followed(text: str, folder: str, page: str) -> str:
    """``text`` of a file in ``folder`` of the repository, as it is to stand at ``page``."""

    def place(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in OF_REPOSITORY:
            there = OF_REPOSITORY[target]
        elif target.split("/")[0] == "configs":
            there, anchor = "reference/config/index.md", ""
        elif target.startswith("docs/"):
            there = target.removeprefix("docs/").replace(".ipynb", ".md")
        else:
            return words
        return f"[{words}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{anchor})"

    return outside_of_code(LINK, place, text)


def outside_of_code(
    pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str
) -> str:
    """Replace what is found, but in blocks of code."""
    blocks = re.split(r"(^ *```.*?^ *```)", text, flags=re.S | re.M)
    return "".join(
        block if index % 2 else pattern.sub(replace, block) for index, block in enumerate(blocks)
    )


def with_formulas(text: str) -> str:
    """Formulas between dollars as MathML."""
    from latex2mathml.converter import convert

    def drawn(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        if found["display"]:
            return f"\n<div>{convert(found['display'].strip(), display='block')}</div>\n"
        return convert(found["inline"])

    return PARTS.sub(drawn, text)


if __name__ == "__main__":
    main()
