"""Figures of language models: losses, a 5-gram on the same text, the meter of generated poems."""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

ORDER = 5
CLAUSES = re.compile("[，。？！；：]")
QUATRAIN = 4
METERS = (5, 7)
"""Characters of a line of a regular quatrain."""


def of_test(name: str) -> Callable[[Path], float]:
    """A metric of the test split."""

    def measure(folder: Path) -> float:
        return float(json.loads((folder / "summary.json").read_text())["test"][name])

    return measure


class KneserNey:
    """Interpolated Kneser-Ney smoothing (Chen and Goodman 1999), a discount for each order."""

    def __init__(self, ids: Sequence[int], vocabulary: int, order: int = ORDER) -> None:
        self.order, self.vocabulary = order, vocabulary
        self.counts: list[dict[tuple[int, ...], int]] = []
        counts: dict[tuple[int, ...], int] = Counter(
            tuple(ids[at : at + order]) for at in range(len(ids) - order + 1)
        )
        for length in range(order, 0, -1):
            self.counts.insert(0, counts)
            # Of a shorter n-gram it counts how many different tokens stand before it.
            counts = Counter(ngram[1:] for ngram in counts) if length > 1 else {}
        self.discounts = []
        self.totals: list[dict[tuple[int, ...], list[int]]] = []
        for counts in self.counts:
            met = Counter(counts.values())
            # Where nothing was met once, something must still be left for what was never met.
            self.discounts.append(met[1] / (met[1] + 2 * met[2]) if met[1] else 0.5)
            totals: dict[tuple[int, ...], list[int]] = defaultdict(lambda: [0, 0])
            for ngram, count in counts.items():
                of = totals[ngram[:-1]]
                of[0] += count
                of[1] += 1
            self.totals.append(dict(totals))

    def probability(self, context: tuple[int, ...], token: int) -> float:
        """Of ``token`` after ``context``."""
        found = 1 / self.vocabulary
        for length in range(min(self.order, len(context) + 1)):
            before = context[len(context) - length :]
            if before not in self.totals[length]:
                break
            total, kinds = self.totals[length][before]
            discount = self.discounts[length]
            count = self.counts[length].get((*before, token), 0)
            found = (max(count - discount, 0) + discount * kinds * found) / total
        return found

    def loss(self, ids: Sequence[int]) -> float:
        """The mean of the tokens but the first, in nats."""
        losses = [
            -math.log(self.probability(tuple(ids[max(0, at - self.order + 1) : at]), ids[at]))
            for at in range(1, len(ids))
        ]
        return math.fsum(losses) / len(losses)


def five_gram_perplexity(folder: Path) -> float:
    """Of the run's test split, by a 5-gram of its training split."""
    import yaml

    from dltrain.config.build import build
    from dltrain.contracts.data import Source

    config = yaml.safe_load((folder / "config.yaml").read_text())
    source: Any = build(config["data"], Source, "data")
    spec = source.read(config["seed"])
    train, test = (source.ids(split).tolist() for split in ("train", "test"))
    return math.exp(KneserNey(train, spec.input.size).loss(test))


def meter_kept(folder: Path) -> float:
    """Per cent of generated poems of four lines that have 5 characters in each, or 7 in each."""
    return _kept(_written(folder), METERS)


def lines_alike(folder: Path) -> float:
    """Per cent of generated poems of four lines that have as many characters in each.

    Those of 4 characters, older than the others, and of 6 are meters, too, of which it has read.
    """
    return _kept(_written(folder))


def meter_of_text(folder: Path) -> float:
    """As :func:`meter_kept`, of the poems that the run has read, all splits."""
    return _kept(_read(folder), METERS)


def text_alike(folder: Path) -> float:
    """As :func:`lines_alike`, of the poems that the run has read, all splits."""
    return _kept(_read(folder))


@functools.cache
def _written(folder: Path, count: int = 64, length: int = 2000) -> list[list[int]]:
    """The characters of each line of quatrains that are generated."""
    from dltrain.contracts.pieces import text_of
    from dltrain.runs.folder import RunFolder
    from dltrain.runs.load import load, spec_of_run

    task: Any = load(folder)
    names = spec_of_run(RunFolder(folder)).input.names
    made = task.sample_text(count, 0, length, temperature=0.8).columns["text"].tolist()
    # The last line of each is cut.
    return _quatrains([one for ids in made for one in text_of(names, ids).split("\n")[:-1]])


def _read(folder: Path) -> list[list[int]]:
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    return _quatrains(Path(config["data"]["path"]).read_text(encoding="utf-8").splitlines())


def _quatrains(lines: Sequence[str]) -> list[list[int]]:
    """Of lines of author, title and poem."""
    clauses = [[part for part in CLAUSES.split(line.split("\t")[-1]) if part] for line in lines]
    return [[len(part) for part in poem] for poem in clauses if len(poem) == QUATRAIN]


def _kept(quatrains: Sequence[Sequence[int]], meters: Container[int] | None = None) -> float:
    """Per cent whose lines are of one length, which is one of ``meters``."""
    kept = sum(
        len(set(lengths)) == 1 and (meters is None or lengths[0] in meters) for lengths in quatrains
    )
    return 100 * kept / max(1, len(quatrains))
