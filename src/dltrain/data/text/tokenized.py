"""Texts encoded once: to ids in files that later runs read in no time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from dltrain.data.cache import made_once, progress, state
from dltrain.data.streams.division import hold_out_test
from dltrain.data.text.report import cuts, doubts
from dltrain.data.text.scripts import Tokens, choose_tokens
from dltrain.data.text.vocabulary import Vocabulary, or_unknown

FORMAT = 3
"""Of the cache; another number makes every cache anew."""
CHUNK = 1000
"""Texts encoded at a time: beside its ids, what is encoded holds much that takes memory."""
COLUMNS = ("ids", "lengths", "targets")
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Texts:
    """A split as it was found: ``texts`` and the class of each."""

    texts: Sequence[str]
    targets: Sequence[int]

    def only(self, rows: Sequence[int]) -> Texts:
        """Those of the rows given."""
        return Texts([self.texts[row] for row in rows], [self.targets[row] for row in rows])


@dataclass(frozen=True)
class Corpus:
    """All splits: ``train``, perhaps ``validation`` and ``test``; and what to say of them.

    ``warnings`` are of what may be wrong.
    """

    name: str
    class_names: Sequence[str]
    splits: Mapping[str, Texts]
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Reading:
    """How texts become ids."""

    tokens: Tokens | Literal["auto"]
    vocabulary_size: int
    min_frequency: int
    lower: bool
    clean_markup: bool
    max_length: int | None
    keep: Literal["first", "last"]
    test: float


@dataclass(frozen=True)
class EncodedSplit:
    """``ids`` (all tokens,) int32 end to end, ``lengths`` (examples,), ``targets`` (examples,)."""

    ids: Ids
    lengths: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """All splits as ids, and the vocabulary: a file's content, and what each id stands for.

    ``tokens`` is what was chosen, ``word_counts`` are those of the training split.
    """

    splits: Mapping[str, EncodedSplit]
    name: str
    tokens: Tokens
    tokenizer: str
    class_names: Sequence[str]
    words: Sequence[str]
    word_counts: Sequence[int]
    notes: Sequence[str]
    warnings: Sequence[str]


def encoded(
    folder: Path, key: Mapping[str, Any], corpus: Callable[[], Corpus], reading: Reading
) -> Encoded:
    """What :func:`encode` returns, from ``folder`` where it was done before.

    ``key`` holds all that shapes the texts. Raises :class:`UserError` where nothing can be kept.
    """
    settings = [FORMAT, "text", dict(key), asdict(reading)]
    place = made_once(folder, settings, lambda to: _save(encode(corpus, reading), to), "the ids")
    return _load(place)


def encode(corpus: Callable[[], Corpus], reading: Reading) -> Encoded:
    """Learn a vocabulary from the training split, and encode all of them with it."""
    found = corpus()
    notes, warnings = list(found.notes), list(found.warnings)
    parts = split_up(found, reading.test)
    if "test" not in found.splits:
        aside, left = len(parts["test"].texts), len(parts["train"].texts)
        notes.append(
            f"{found.name}: no test split is given: {aside:,} of {aside + left:,} texts are set "
            "aside as one, the same for every seed."
        )
    _check(found, parts)
    tokens: Tokens
    if reading.tokens == "auto":
        tokens, why = choose_tokens(parts["train"].texts)
        if why:
            notes.append(_chosen(found.name, tokens, why))
    else:
        tokens = reading.tokens
    with progress("Encoding texts") as bars:
        steps = [parts["train"], *parts.values()]
        bar = bars.add_task("", total=sum(len(part.texts) for part in steps))

        def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
            for first in range(0, len(texts), CHUNK):
                chunk = texts[first : first + CHUNK]
                yield chunk
                bars.advance(bar, len(chunk))

        vocabulary = Vocabulary.learn(
            chunks(parts["train"].texts),
            reading.vocabulary_size,
            tokens,
            reading.min_frequency,
            reading.lower,
            reading.clean_markup,
        )
        splits = {}
        for name, part in parts.items():
            ids = [row for chunk in chunks(part.texts) for row in vocabulary.encode(chunk)]
            splits[name] = _joined(ids, part.targets, reading)
            place = f"{found.name}, {name}"
            warnings += doubts(place, ids)
            notes += cuts(place, ids, reading.max_length, reading.keep)
    vocabulary.cut(reading.max_length, reading.keep)
    counts = np.bincount(splits["train"].ids, minlength=len(vocabulary))
    return Encoded(
        splits,
        found.name,
        tokens,
        vocabulary.text,
        found.class_names,
        vocabulary.words,
        counts.tolist(),
        notes,
        warnings,
    )


def _chosen(name: str, tokens: Tokens, why: str) -> str:
    what = {
        "character": "each character is a token",
        "mixed": "each of their characters is a token, and so is each word of other scripts",
    }[tokens]
    return f"{name}: {why}, so {what}: data.tokens={tokens}, unless you say word or bpe."


def split_up(corpus: Corpus, test: float) -> dict[str, Texts]:
    """The splits of ``corpus``; the fraction ``test`` of the first is one where none is given."""
    parts = dict(corpus.splits)
    if "test" not in parts:
        parts["train"], parts["test"] = _set_aside(parts["train"], test)
    return parts


def _set_aside(texts: Texts, fraction: float) -> tuple[Texts, Texts]:
    targets = torch.tensor(texts.targets)
    kept, aside = hold_out_test(targets, fraction)
    return texts.only(kept.tolist()), texts.only(aside.tolist())


def _check(corpus: Corpus, parts: Mapping[str, Texts]) -> None:
    for name, part in parts.items():
        if not part.texts:
            hint = "" if "test" in corpus.splits else "; raise data.test, the fraction set aside"
            raise ValueError(f"{corpus.name}: no text is left for the split {name!r}{hint}")
    found = set(parts["train"].targets)
    if len(found) < 2:
        only = corpus.class_names[found.pop()]
        raise ValueError(
            f"{corpus.name}: every training text is of one class, {only!r}: there is nothing to "
            "learn"
        )


def _joined(ids: Sequence[Ids], targets: Sequence[int], reading: Reading) -> EncodedSplit:
    """The texts end to end, each cut to length."""
    most = reading.max_length
    part = {"first": slice(most), "last": slice(-most if most else None, None)}[reading.keep]
    rows = [or_unknown(row)[part] for row in ids]
    lengths = np.array([len(row) for row in rows], np.int32)
    return EncodedSplit(np.concatenate(rows), lengths, np.array(targets, np.int64))


def _save(encoded: Encoded, place: Path) -> None:
    for name, part in encoded.splits.items():
        for column in COLUMNS:
            np.save(place / f"{name}-{column}.npy", getattr(part, column))
    rest = {name: value for name, value in vars(encoded).items() if name != "splits"}
    content = json.dumps(rest | {"splits": list(encoded.splits)})
    (place / "vocabulary.json").write_text(content, encoding="utf-8")


def _load(place: Path) -> Encoded:
    content = json.loads((place / "vocabulary.json").read_text(encoding="utf-8"))
    splits = {
        name: EncodedSplit(*(np.load(place / f"{name}-{column}.npy") for column in COLUMNS))
        for name in content.pop("splits")
    }
    return Encoded(splits, **content)


def fingerprint(path: Path) -> list[tuple[str, int, int, int]]:
    """The name and :func:`~dltrain.data.cache.state` of a file, or of all files below a folder.

    Raises ``ValueError`` where there is none.
    """
    try:
        path.stat()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), *state(file)) for file in files if not file.is_dir()]
