"""What a constructor refused, told by the key that a user would type."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dltrain.errors import Fault, OutOfMemory

TORCH = re.compile(
    r"Invalid (?P<name>.+?)(?: value| parameter)?(?P<at> at index \d)?: (?P<got>\S+)"
)
"""How torch's optimizers refuse a value: without the bound, and at times by another name."""
TORCH_NAMES = {"learning rate": "lr", "epsilon": "eps", "beta": "betas"}


def refused(key: str, arguments: Collection[str], error: Exception) -> Fault:
    """The fault of the node ``key`` whose constructor, given ``arguments``, raised ``error``.

    A message that begins with the name of an argument is about that key, unless it begins with
    another argument's value, or a file, that happens to be called so.
    """
    message = str(error)
    theirs = TORCH.fullmatch(message)
    if theirs is not None:
        name = TORCH_NAMES.get(theirs["name"], theirs["name"])
        bound = _bound(theirs["got"])
        if name in arguments and bound:
            problem = f"must be {bound}, got {theirs['got']}{theirs['at'] or ''}"
            return Fault(f"{key}.{name}", problem, joint=" ")
    name = re.match(r"\w*", message)[0]  # type: ignore[index]  # matches always
    if name not in arguments or _is_called_so(name, message, arguments):
        return Fault(key, message)
    rest = message[len(name) :]
    joint = re.match(r"(: | )?", rest)[0]  # type: ignore[index]
    return Fault(f"{key}.{name}", rest[len(joint) :], joint=joint)


def _is_called_so(name: str, message: str, arguments: Collection[str]) -> bool:
    """Whether what ``message`` begins with is no argument, as ``text.txt`` and ``test/a.csv``."""
    if re.match(r"[/\\-]", message[len(name) :]):
        return True
    values = dict(arguments) if isinstance(arguments, Mapping) else {}
    ending = re.match(r"\.\w", message[len(name) :]) is not None
    if ending and isinstance(values.get(name), (str, int, float, type(None))):
        return True
    others = (value for own, value in values.items() if own != name and isinstance(value, str))
    return any(value.startswith(name) and message.startswith(value) for value in others)


def too_large(key: str, arguments: Mapping[str, Any], error: BaseException) -> Fault:
    """The fault of what takes more memory than there is: of the largest number given to it."""
    numbers = dict(_integers(key, arguments))
    where = max(numbers, key=numbers.__getitem__) if numbers else key
    problem = str(error) if isinstance(error, OutOfMemory) else "asks for more memory than there is"
    if where == key:
        return Fault(key, f"{problem}.", joint=" ")
    return Fault(where, f"is too large: {key} {problem}.", joint=" ")


def _integers(key: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Each integer that a config gave, by its key; of a list the largest."""
    for name, value in arguments.items():
        inside = value if isinstance(value, list) else [value]
        found = [item for item in inside if type(item) is int]
        if found:
            yield f"{key}.{name}", max(found)
        if isinstance(value, Mapping):
            yield from _integers(f"{key}.{name}", value)


def _bound(got: str) -> str:
    """The bound that ``got`` breaks: of torch's, the lower is 0, and the upper, if any, is 1."""
    try:
        value = float(got)
    except ValueError:
        return ""
    if value < 0:
        return ">= 0"
    return "< 1" if value >= 1 else ""
