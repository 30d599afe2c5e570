"""Pages lead nowhere that is not there, and each has its place on the site.

``scripts/build_site.py`` builds it with --strict; this needs no site generator.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from PIL import Image

import benchmark
import build_site
import check_course
import results
from dltrain.commands.tour import write_digit, write_wines
from tests.conftest import REPOSITORY, Cli

PAGES = [
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *(REPOSITORY / name for name in build_site.OF_REPOSITORY),
]
README = REPOSITORY / "README.md"
WITH_OWN_PARTS = ("architecture", "extending", "own_model")
"""Pages whose commands name parts that a reader has made."""
OWN_DATA = ("own_table", "own_images", "own_text", "imbalance")
ANY_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(REPOSITORY / "docs").rglob("*.ipynb")],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
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
    notebooks = {
        file.relative_to(REPOSITORY / "docs").with_suffix(".md").as_posix()
        for file in (REPOSITORY / "docs").rglob("*.ipynb")
    }
    made = {*build_site.OF_REPOSITORY.values(), *notebooks}
    assert docs | made == {name for name in named if not name.startswith("reference/")}


def test_links_and_formulas_as_the_site_has_them() -> None:
    text = "[a](../CHANGELOG.md), [b](../x.py), [c](tuning.md#there), [d](../README.md#results)"
    assert build_site.followed(text, "docs", "data.md") == (
        "[a](changelog.md), b, [c](tuning.md#there), [d](index.md#results)"
    )
    assert build_site.followed("[e](data.md)", "docs/zh", "zh/x.md") == "[e](data.md)"
    assert build_site.followed("```\n[f](../x.py)\n```", "docs", "x.md") == "```\n[f](../x.py)\n```"


def test_the_overview_has_one_row_for_each_group() -> None:
    overview = (REPOSITORY / "docs" / "overview.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)=` ", overview, re.MULTILINE)
    assert len(rows) > 5
    assert sorted(rows) == sorted(set(rows))


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 250


def between(page: Path, begin: str, end: str) -> str:
    return page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()


def test_tables_of_results_are_of_what_was_measured() -> None:
    kept = json.loads(results.KEPT.read_text())
    for page, table in (
        (results.PAGE, results.full_table(kept)),
        (results.README, results.short_table(kept)),
    ):
        assert between(page, results.BEGIN, results.END) == table, "scripts/results.py --tables"
    times = between(benchmark.PAGE, benchmark.BEGIN, benchmark.END)
    assert between(README, benchmark.BEGIN, benchmark.END) == benchmark.ratios(times)


def training_commands(page: Path) -> list[list[str]]:
    """The words behind ``dltrain`` of commands that train, in blocks and, but in README, prose."""
    text = page.read_text(encoding="utf-8").replace(" \\\n", " ")
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in re.findall(r"^(?:\$ )?dltrain .*$", block, re.M)]
    lines += re.findall(
        r"`(dltrain [^`\n]*=[^`\n]*)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    )
    found = [shlex.split(line.removeprefix("$ "), comments=True)[1:] for line in lines]
    return [words for words in found if trains(words)]


def trains(words: list[str]) -> bool:
    return not words or words[0] in ("-m", "--config-dir", "federate") or "=" in words[0]


def test_every_command_of_the_readme_composes() -> None:
    wrong = {" ".join(words): check_course.refused(words) for words in training_commands(README)}
    (mistake,) = [line for line, fault in wrong.items() if fault]
    assert mistake == "optimizer.learning_rate=0.1 trainer.epochs=ten"  # which it shows


def test_keys_and_choices_of_every_page_are_right() -> None:
    known = check_course.known_keys()
    wrong = {}
    for page in (REPOSITORY / "docs").glob("*.md"):
        if page.stem not in WITH_OWN_PARTS:
            for words in training_commands(page):
                ours = [word for word in words if not word.startswith("hydra")]
                fault = check_course.looked_up(ours, known)
                if fault:
                    wrong[f"{page.stem}: {' '.join(words)}"] = fault
    assert wrong == {}


@pytest.mark.parametrize("name", OWN_DATA)
def test_keys_on_pages_about_ones_own_data_are_right(name: str) -> None:
    text = (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"`'?([a-z]+(?:\.\w+)+)=", text))
    assert keys
    assert keys - check_course.known_keys() == set()


def own_files(folder: Path) -> None:
    """What the pages' commands read: a table, an image, class folders, texts."""
    write_wines(folder)
    write_digit(folder)
    for name in ("ants", "bees"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (40, 30 + number), (number * 20, 90, 50 * (name == "ants")))
            image.save(folder / "photos" / name / f"{number}.png")
    verdicts = {"good": "p", "dull": "n", "moving": "p", "weak": "n"}
    rows = [f"{a} and {b} {n},{verdicts[b]}" for n in range(5) for a in verdicts for b in verdicts]
    (folder / "films.csv").write_text("review,verdict\n" + "\n".join(rows) + "\n")


def short(words: list[str]) -> list[str]:
    """The command with two steps to a run, of the smallest sweep."""
    if not trains(words):
        return words
    kept = [re.sub(r"^(seed=\d+),.*", r"\1", word) for word in words]
    steps = [] if any("=ten" in word for word in words) else ["trainer.steps=2"]
    return [word for word in kept if not word.startswith("trainer.epochs=8")] + [
        *steps,
        "callbacks=none",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in (*OWN_DATA, "own_model"))]
)
def test_every_command_of_a_page_runs(page: str, typed: Cli, tmp_path: Path) -> None:
    own_files(tmp_path)
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in re.findall(r"^(?:\$ )?dltrain .*$", block, re.M)]
    assert len(lines) > 1
    if page == "README.md":
        assert typed("trainer.steps=2", "callbacks=none").returncode == 0  # its first command
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)[1:]
        if "model.pretrained=true" in words:
            continue  # downloads
        ended = typed(*short(words))
        assert ended.returncode == 2 * ("trainer.epochs=ten" in words), f"{line}\n{ended.stderr}"


def test_the_readmes_own_model_and_python_run(
    typed: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = README.read_text(encoding="utf-8")
    path, command, yaml = re.search(
        r"^(mine/\S+) +# dltrain (.*)\n((?: {4}.*\n)+)", text, re.M
    ).groups()
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(textwrap.dedent(yaml))
    assert typed(*command.split(), "trainer.steps=2", "callbacks=none").returncode == 0

    write_digit(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    *lines, last = code.replace("epochs=5", "epochs=1 callbacks=none").strip().splitlines()
    known: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), known)
    (digit,) = eval(last, known)
    assert digit in set("0123456789")
