"""Whether two runs differ by more than chance, from their results on the same test examples.

McNemar's test (1947), in its exact form, for what is right or wrong; the paired bootstrap (Efron
and Tibshirani 1993, chapter 13) for the mean of anything. Numpy is imported when it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
BLOCK = 1 << 22
"""Draws at a time, so that memory does not grow with the number of examples."""


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of two classifiers has right, and how probable that is by chance."""

    only_first: int
    only_second: int
    p_value: float
    """Of a split of these examples that is at least as uneven, if both err equally often."""


@dataclass(frozen=True)
class Bootstrap:
    """The mean difference, second minus first, with an interval of :data:`LEVEL` and a p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided, for a mean difference of 0."""


def is_binary(values: Sequence[float]) -> bool:
    """Whether every value is 0 or 1."""
    return set(values) <= {0.0, 1.0}


def mcnemar(first: Sequence[float], second: Sequence[float]) -> McNemar:
    """The exact test of hits (n,), 1 for right and 0 for wrong, on the same examples."""
    pairs = list(zip(first, second, strict=True))
    only_first, only_second = pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0))
    return McNemar(only_first, only_second, _two_sided(only_first, only_second))


def _two_sided(one: int, other: int) -> float:
    """The probability of at most ``min(one, other)`` heads or tails of as many fair coins."""
    n, least = one + other, min(one, other)
    whole = n * math.log(2) - math.lgamma(n + 1)
    tail = sum(
        math.exp(-whole - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in range(least + 1)
    )
    return min(1.0, 2 * tail)


def bootstrap(
    first: Sequence[float], second: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED
) -> Bootstrap:
    """Resample the differences of values (n,) of the same examples; the same seed, the same result.

    The interval is that of percentiles. No resample is taken for proof of a p-value of 0.
    """
    import numpy as np

    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    generator, count = np.random.default_rng(seed), len(differences)
    values, counts = np.unique(differences, return_counts=True)
    if len(values) <= 1000:  # drawing how often each occurs is the same, and quicker
        drawn = generator.multinomial(count, counts / count, size=resamples)
        means = drawn @ values / count
    else:
        rows = max(1, BLOCK // count)
        sizes = [min(rows, resamples - done) for done in range(0, resamples, rows)]
        means = np.concatenate([
            differences[generator.integers(count, size=(size, count))].mean(1) for size in sizes
        ])  # fmt: skip
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    at_most, at_least = int((means <= 0).sum()), int((means >= 0).sum())
    p_value = min(1.0, 2 * (min(at_most, at_least) + 1) / (resamples + 1))
    return Bootstrap(float(differences.mean()), float(low), float(high), p_value)
