"""What a person reads is in the words of the field, and one thing has one name."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
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

IN_NAMES = {
    r"shares?(?! memory)": "fraction",
    r"evidence(?! lower bound)": "ELBO",
    r"believ\w+": "confidence",
    r"kinds(?= of\b)": "clusters",
}
"""The same for names, whose words stand in no sentence."""


def any_of(replaced: Iterable[str]) -> re.Pattern[str]:
    """One of these, as whole words."""
    return re.compile("|".join(rf"(?<![\w-])(?:{words})(?![\w-])" for words in replaced), re.I)


WORD = any_of(REPLACED)
NAME = any_of([words for words in REPLACED if "evidence" not in words] + list(IN_NAMES))

CODE = re.compile(
    r"``.*?``|`[^`]*`|https?://\S+|:\w+:`[^`]*`"  # quoted: it is what the code has
    r"|\w*[_/=.]\w[\w/=.\-]*"  # a key, a path, a setting: snake_case, a=b, a.b
)
"""Names in running text, which stay as the code has them."""

MEANT: dict[str, set[str]] = {
    # What was renamed, by its old name.
    "src/dltrain/config/renamed.py": {
        *("judge", "picture", "pictures", "standardise", "normalise", "binarise"),
    },
    # A word of its reviews: another would be other data.
    "src/dltrain/data/text/toy_reviews.py": {"neighbour"},
    "docs/course/31-word-vectors.md": {"neighbour"},
    "scripts/course_language.py": {"neighbour"},
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


@functools.lru_cache(maxsize=1)  # a file's texts and its names are read one after the other
def nodes(path: Path) -> list[ast.AST]:
    """All of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text())))


def of_python(path: Path) -> Iterator[Text]:
    """Comments, docstrings, and every other string of more than one word."""
    name, source = str(path.relative_to(ROOT)), path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(name, token.start[0], token.string)
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.splitlines()):
                yield Text(name, min(node.lineno + number, node.end_lineno or 0), line)


def names_of_python(path: Path) -> Iterator[Text]:
    """What is defined, by name, and the strings of one word: keys, metrics, labels of figures."""
    name = str(path.relative_to(ROOT))
    for node in nodes(path):
        match node:
            case ast.ClassDef(name=named) | ast.FunctionDef(name=named) | ast.arg(arg=named):
                yield Text(name, node.lineno, parts(named))
            case ast.Name(id=named, ctx=ast.Store()) | ast.Attribute(attr=named, ctx=ast.Store()):
                yield Text(name, node.lineno, parts(named))
            case ast.Constant(value=str(value)) if " " not in value:
                yield Text(name, node.lineno, parts(value))


def names_of_yaml(path: Path) -> Iterator[Text]:
    """The choice that the file is, and its keys."""
    name = str(path.relative_to(ROOT))
    yield Text(name, 0, parts(path.stem))
    for number, line in enumerate(path.read_text().splitlines(), 1):
        key = re.match(r"\s*([\w.]+):", line)
        if key:
            yield Text(name, number, parts(key[1]))


def parts(name: str) -> str:
    """The words of ``snake_case``, ``CamelCase`` and ``a.b``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", name))


ENGLISH = [file for file in (ROOT / "docs").rglob("*.md") if "zh" not in file.parts]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
CODE_FILES = [*sorted(SOURCE.rglob("*.py")), *sorted((ROOT / "scripts").glob("*.py"))]
PAGES = (ROOT / "README.md", *sorted(ENGLISH))


def replaced(texts: Iterable[Text], pattern: re.Pattern[str] = WORD) -> Iterator[tuple[Text, str]]:
    """What has a word that the field says otherwise, and the word."""
    for text in texts:
        for word in words_of(text.words, pattern):
            yield text, word


@functools.cache  # most names stand in many places
def words_of(text: str, pattern: re.Pattern[str]) -> list[str]:
    """Those in ``text``, in lower case."""
    return [found[0].lower() for found in pattern.finditer(CODE.sub("·", text))]


def found() -> Iterator[tuple[Text, str]]:
    """Every such word, in texts and in names."""
    for path in PAGES:
        yield from replaced(of_markdown(path))
    for path in CONFIGS:
        yield from replaced(of_yaml(path))
        yield from replaced(names_of_yaml(path), NAME)
    for path in CODE_FILES:
        yield from replaced(of_python(path))
        yield from replaced(names_of_python(path), NAME)


def instead(text: str) -> str:
    """What the field says for the first of these words in ``text``."""
    patterns = REPLACED | IN_NAMES
    return next((new for old, new in patterns.items() if any_of([old]).search(text)), "")


def test_what_a_person_reads_and_types_is_in_the_words_of_the_field() -> None:
    faults, seen = [], dict[str, set[str]]()
    for text, word in found():
        seen.setdefault(text.path, set()).add(word)
        if word not in MEANT.get(text.path, ()):
            said = instead(text.words)
            faults.append(f"{text.path}:{text.line}: {word!r}, say {said!r}: {text.words.strip()}")
    assert not faults, "\n".join(faults)
    # No exception is left that nothing needs.
    stale = {path: words - seen.get(path, set()) for path, words in MEANT.items()}
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PictureAugment", ["picture"]),
        ("share_of_test_pictures", ["share", "pictures"]),
        ("callbacks.judge", ["judge"]),
        ("believability_", ["believability"]),
        ("normalise_embedding", ["normalise"]),
        ("squared_deviations", []),
        ("EvidenceLowerBound", []),
    ],
)
def test_the_words_of_a_name_are_read(name: str, expected: list[str]) -> None:
    assert [word for _, word in replaced([Text("", 1, parts(name))], NAME)] == expected


def test_a_fault_says_the_word_of_the_field() -> None:
    assert instead("a share of them") == "fraction"
    assert instead("as it was normalised") == "-ize"
