"""What a key may be given while one searches: a range of numbers, or choices.

The grammar is Hydra's own for sweeps, so that the same words mean the same to ``-m`` with a
sweeper: ``interval(a,b)``, ``tag(log, interval(a,b))``, ``int(interval(a,b))``,
``range(a,b,step)``, ``choice(a,b)`` and ``a,b``. Three short forms stand for the first three.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

NUMBER = r"\s*[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?\s*"
SHORT = re.compile(rf"\b(log|uniform|int)\(({NUMBER}),({NUMBER})\)")
CALL = re.compile(r"\b([A-Za-z_]\w*)\(")
CAST = re.compile(r"\bint\(")
ARGUMENT = re.compile(rf"(?<=[(,])({NUMBER})(?=[,)])")
FORMS = (
    "log(1e-4,1e-1), uniform(0,0.5), int(1,8), int(log(8,512)), range(16,129,16) or choices: a,b,c"
)
"""What one may write, as a message lists it."""
FUNCTIONS = frozenset(
    {"log", "uniform", "int", "interval", "tag", "range", "choice", "sort", "float", "str", "bool"}
)


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included; ``log``: evenly by their logarithm.

    ``step`` None: any number between, or of whole ones each. Raises ``ValueError`` for none.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        """See that there is something between."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError("a range has two finite ends")
        if self.low >= self.high:
            raise ValueError(f"a range goes up, and {self.low:g} is not below {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log is of numbers above 0, and the range begins at {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log goes with no step; write log(a,b) or int(log(a,b))")

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[str, str]:
        """The two values at which all others are possible, as they are typed."""
        return repr(self.low), repr(self.high)

    def has(self, value: object) -> bool:
        """Whether ``value`` is a number between the ends."""
        whole = not self.whole or isinstance(value, int)
        return isinstance(value, (int, float)) and whole and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of ``values``, each as it is typed. Raises ``ValueError`` where one is there twice."""

    values: tuple[str, ...]

    def __post_init__(self) -> None:
        """See that they differ."""
        twice = [value for value in self.values if self.values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")

    @property
    def ends(self) -> tuple[str, ...]:
        """All of them: each is another thing."""
        return self.values

    def has(self, value: object) -> bool:
        """Whether ``value`` is one of them."""
        return value in self.values


Dimension = Interval | Choice


def in_hydras_words(value: str) -> str:
    """``value`` with the short forms written out, as Hydra's grammar has them.

    Raises ``ValueError`` for an ``int`` of a number that is not whole: Hydra would cut it off
    without a word.
    """
    for number in ARGUMENT.findall(value) if CAST.search(value) else ():
        if not float(number).is_integer():
            raise ValueError(f"int is of whole numbers, and {number.strip()} is none")
    return SHORT.sub(_written_out, value)


def _written_out(found: re.Match[str]) -> str:
    name, low, high = found[1], found[2].strip(), found[3].strip()
    if name == "log":
        return f"tag(log, interval({low}, {high}))"
    if name == "int":
        return f"int(interval({low}, {high}))"
    return f"interval({low}, {high})"


def unknown_function(value: str) -> str | None:
    """The first word before a bracket that is no function of the grammar; None: all are."""
    return next((name for name in CALL.findall(value) if name not in FUNCTIONS), None)
