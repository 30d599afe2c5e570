"""What a person reads is in the words of the field, and one thing has one name."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "dltrain"

REPLACED = {
    r"pictures?": "image",
    r"judg(?:e[sd]?|ing|e?ments?)": "evaluate, evaluation, sample quality",
    r"(?<!standard )(?<!squared )deviations?": "standard deviation, std",
    r"shares?(?= of\b)|(?<=\ba )share": "fraction",
    r"believ(?!ab)\w+": "believability, a metric",
    r"evidence(?! lower bound \(ELBO\))": "ELBO",
    r"kinds(?= of (?:image|picture))": "k-means clusters",
    r"views(?= of (?:an? |``)?image)": "test-time augmentation",
    r"what (?:is|was) said": "prediction, console log",
    r"(?:made|makes?|making) images": "generated images",
    r"hyper-parameters?": "hyperparameter",
    r"learnt": "learned",
    r"by heart": "memorized, overfits",
    r"tumours?|unlabelled|labelled|reparametris\w+": "American spelling",
    r"(?:normal|standard|initial|binar|memor|regular|orthogonal|minim|maxim|optim|penal|general|summar)"
    r"is(?:e[sd]?|ing|ations?)": "-ize",
    r"colou\w+|grey\w*|neighbou\w+|behaviou\w+|centre[sd]?": "American spelling",
}
"""Words, as patterns, and what is said instead."""
WORD = re.compile("|".join(rf"(?<![\w-])(?:{words})(?![\w-])" for words in REPLACED), re.IGNORECASE)

CODE = re.compile(
    r"``.*?``|`[^`]*`|https?://\S+|:\w+:`[^`]*`"  # quoted: it is what the code has
    r"|\w*[_/=.]\w[\w/=.\-]*"  # a key, a path, a setting: snake_case, a=b, a.b
)
"""Names in running text, which stay as the code has them."""

MEANT: dict[str, set[str]] = {
    # A column of a file that runs have written since the first version.
    "src/dltrain/callbacks/projector.py": {"share"},
    # Not gone over yet.
    "src/dltrain/config/build.py": {"judge", "judged"},
}
"""By file: words that stay, each with its reason beside it."""


class Text(NamedTuple):
    """A piece of what a person reads, and where it begins."""

    path: str
    line: int
    words: str


def of_markdown(path: Path) -> Iterator[Text]:
    """Lines outside of code blocks."""
    code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            yield Text(str(path.relative_to(ROOT)), number, line)


def of_yaml(path: Path) -> Iterator[Text]:
    """Heads and comments."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        _, comment, words = line.partition("#")
        if comment:
            yield Text(str(path.relative_to(ROOT)), number, words)


def of_python(path: Path) -> Iterator[Text]:
    """Comments, docstrings, and every other string of more than one word."""
    name, source = str(path.relative_to(ROOT)), path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(name, token.start[0], token.string)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.splitlines()):
                yield Text(name, min(node.lineno + number, node.end_lineno or 0), line)


READ = [
    *((path, of_markdown) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))),
    *((path, of_yaml) for path in sorted((ROOT / "configs").rglob("*.yaml"))),
    *((path, of_python) for path in sorted(SOURCE.rglob("*.py"))),
]


def replaced(texts: Iterator[Text]) -> Iterator[tuple[Text, str]]:
    """What has a word that the field says otherwise, and the word."""
    for text in texts:
        for found in WORD.finditer(CODE.sub("·", text.words)):
            yield text, found[0].lower()


def test_what_a_person_reads_is_in_the_words_of_the_field() -> None:
    faults = [
        f"{text.path}:{text.line}: {word!r} in: {text.words.strip()}"
        for path, texts in READ
        for text, word in replaced(texts(path))
        if word not in MEANT.get(text.path, ())
    ]
    assert not faults, "\n".join(faults)


def test_no_exception_is_left_that_nothing_needs() -> None:
    found: dict[str, set[str]] = {}
    for path, texts in READ:
        for text, word in replaced(texts(path)):
            found.setdefault(text.path, set()).add(word)
    stale = {path: words - found.get(path, set()) for path, words in MEANT.items()}
    assert not {path: words for path, words in stale.items() if words}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Every picture is judged.", ["picture", "judged"]),
        ("A share of them, the standard deviation, a deviation", ["share", "deviation"]),
        ("Runs share a folder; callbacks.judge.run=RUN and ``normalise`` are keys.", []),
        ("the sum of squared deviations; share_of_samples; evidence", ["evidence"]),
        ("Colour is learnt, then normalised", ["colour", "learnt", "normalised"]),
        ("Kinds of image, views of an image", ["kinds", "views"]),
    ],
)
def test_words_are_told_from_names(words: str, expected: list[str]) -> None:
    assert [word for _, word in replaced(iter([Text("", 1, words)]))] == expected
