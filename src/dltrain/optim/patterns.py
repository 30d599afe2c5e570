"""Parts of a network by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn

from dltrain.config.suggest import did_you_mean

SHOWN = 8
"""Names that are listed where none is near."""


def named_by(patterns: Iterable[str], task: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of ``task`` that each pattern names.

    A pattern is the name of a module, which stands for all that lies in it, or of a parameter;
    ``*`` and ``?`` stand for any letters, dots included. What the names of all parameters begin
    with (``model.``) may be left out. Raises :class:`PatternError` for a pattern of nothing.
    """
    names = {parameter: list(_names(name, task)) for name, parameter in task.named_parameters()}
    found = {}
    for pattern in patterns:
        within = f"{pattern}.*"
        found[pattern] = [
            parameter
            for parameter, called in names.items()
            if any(fnmatchcase(name, pattern) or fnmatchcase(name, within) for name in called)
        ]
        if not found[pattern]:
            raise PatternError(pattern, _hint(pattern, names.values()))
    return found


class PatternError(ValueError):
    """A pattern that names nothing; ``hint`` says what there is."""

    def __init__(self, pattern: str, hint: str) -> None:
        super().__init__(f"the network has no part {pattern!r}. {hint}")
        self.pattern, self.hint = pattern, hint


def _names(name: str, task: nn.Module) -> Iterator[str]:
    """``name``, and what is left of it without each beginning that all names share."""
    yield name
    beginning = ""
    for part in name.split(".")[:-1]:
        beginning += f"{part}."
        if not all(other.startswith(beginning) for other, _ in task.named_parameters()):
            return
        yield name.removeprefix(beginning)


def _hint(pattern: str, names: Iterable[list[str]]) -> str:
    """The nearest module or parameter, or what there is at the top."""
    shortest = [called[-1] for called in names]
    parts = [name.split(".") for called in names for name in called]
    every = {".".join(words[:end]) for words in parts for end in range(1, len(words) + 1)}
    alike = [name for name in sorted(every) if name.count(".") == pattern.count(".")]
    near = did_you_mean(pattern, alike) or did_you_mean(pattern, sorted(every))
    if near:
        return near
    top = list(dict.fromkeys(name.partition(".")[0] for name in shortest))
    more = f" and {len(top) - SHOWN} more" if len(top) > SHOWN else ""
    return f"There are {', '.join(top[:SHOWN])}{more}."
