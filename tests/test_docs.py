"""Pages lead nowhere that is not there, and each has its place on the site.

``scripts/build_site.py`` builds it with --strict; this needs no site generator.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import build_site
from tests.conftest import REPOSITORY

PAGES = [
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *(REPOSITORY / name for name in build_site.OF_REPOSITORY),
]
ANY_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")


@pytest.mark.parametrize(
    "page", [*PAGES, REPOSITORY / "README.md"], ids=lambda page: str(page.relative_to(REPOSITORY))
)
def test_links_lead_to_files(page: Path) -> None:
    blocks = re.split(r"^```.*?^```$", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = [link for block in blocks for link in ANY_LINK.findall(block)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"([\w/.-]+\.md)", navigation))
    docs = {
        page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES if "docs" in page.parts
    }
    made = {"index.md", "results.md", *build_site.OF_REPOSITORY.values()}
    assert docs | made == {name for name in named if not name.startswith("reference/")}


def test_links_and_formulas_as_the_site_has_them() -> None:
    text = "[a](../CHANGELOG.md), [b](../x.py), [c](tuning.md#there), [d](../README.md#results)"
    assert build_site.followed(text, "docs", "data.md") == (
        "[a](changelog.md), b, [c](tuning.md#there), [d](results.md)"
    )
    assert build_site.followed("[e](data.md)", "docs/zh", "zh/x.md") == "[e](data.md)"
    assert build_site.followed("```\n[f](../x.py)\n```", "docs", "x.md") == "```\n[f](../x.py)\n```"


def test_the_readme_has_one_row_for_each_group() -> None:
    rows = re.findall(r"^\| `([a-z]+)=` ", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 5
    assert sorted(rows) == sorted(set(rows))
