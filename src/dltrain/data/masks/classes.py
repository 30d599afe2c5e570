"""What the classes of masks are called, their colors, and which pixel value each of them has."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.config.suggest import did_you_mean
from dltrain.files import read_text

IGNORED = 255
"""What a pixel of no class has in a mask that was read."""
MOST = IGNORED
"""Classes that there may be."""
LARGEST = 1 << 20
"""Bytes of a file of classes."""

Color = tuple[int, int, int]

NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
FIRST = re.compile(rf"{NUMBERS}[\s,;:]+(\S.*)")
LAST = re.compile(rf"(.*?\S)[\s,;:]+{NUMBERS}[\s,;:]*")
HEADER = re.compile(r"\w+[\s,;:]+r(ed)?[\s,;:]+g(reen)?[\s,;:]+b(lue)?", re.I)


@dataclass(frozen=True)
class Classes:
    """Names, and red, green and blue of each where they are told; both in the classes' order."""

    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()


def read_classes(
    given: Sequence[str] | Mapping[str, Sequence[int]] | None, file: str | None
) -> Classes:
    """The classes that a user names: names, or colors by name; or a ``file`` of either.

    A file has a class a line: a name, or a name and three numbers, the numbers first or last,
    between commas or blanks; or it is JSON, a list of names or an object of colors by name. Raises
    ValueError, naming file and line, for anything else, and for a name or color that comes twice.
    """
    if given is not None and file is not None:
        raise ValueError("classes are given, or in classes_file: not both")
    if file is not None:
        return _of_file(Path(file).expanduser())
    return Classes() if given is None else _of_value(given, "classes")


def _of_value(value: Any, where: str) -> Classes:
    if isinstance(value, Mapping):
        pairs = [(str(name), _color(color, f"{where}: {name}")) for name, color in value.items()]
        return _checked([(f"{where}: {name}", name, color) for name, color in pairs])
    if isinstance(value, (list, tuple)) and all(isinstance(one, (str, int)) for one in value):
        return _checked([(where, str(name), None) for name in value])
    raise ValueError(f"{where}: a list of names, or a color [red, green, blue] for each name")


def _of_file(path: Path) -> Classes:
    try:
        text = read_text(path, LARGEST, "utf-8-sig")
    except OSError as error:
        raise ValueError(f"classes_file: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"classes_file: {path} is no UTF-8 text") from error
    if path.suffix.lower() == ".json":
        try:
            return _of_value(json.loads(text), str(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"classes_file: {path} is no JSON: {error}") from error
    found: list[tuple[str, str, Color | None]] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#") or (not found and HEADER.fullmatch(line)):
            continue
        where = f"{path}, line {number}"
        if match := FIRST.fullmatch(line):
            *color, name = match.groups()
        elif match := LAST.fullmatch(line):
            name, *color = match.groups()
        else:
            found.append((where, line, None))
            continue
        found.append((where, name.strip(" ,;:\t\"'"), _color(list(map(int, color)), where)))
    return _checked(found)


def _color(given: Any, where: str) -> Color:
    numbers = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(numbers) != 3 or not all(isinstance(n, int) and 0 <= n <= 255 for n in numbers):
        raise ValueError(f"{where}: a color is [red, green, blue] of 0 to 255, got {given}")
    return numbers[0], numbers[1], numbers[2]


def _checked(lines: Sequence[tuple[str, str, Color | None]]) -> Classes:
    """Where each was read, its name and its color."""
    names: dict[str, str] = {}
    colors: dict[Color, str] = {}
    for where, name, color in lines:
        if name in names:
            raise ValueError(f"{where}: the class {name!r} comes twice")
        names[name] = where
        if color is None:
            continue
        if color in colors:
            raise ValueError(f"{where}: {name!r} has the color of {colors[color]!r}, {list(color)}")
        colors[color] = name
    if colors and len(colors) < len(names):
        where, name, _ = next(one for one in lines if one[2] is None)
        raise ValueError(f"{where}: {name!r} has no color, and others have")
    if len(names) > MOST + 1:
        raise ValueError(f"classes: there are {len(names)}; {MOST} at most can be told apart")
    return Classes(tuple(names), tuple(colors))


@dataclass(frozen=True)
class Coding:
    """Which class, or ``IGNORED``, each pixel value is; colors are values by :func:`packed`.

    ``codes`` rise; a value that is not among them is no class.
    """

    codes: tuple[int, ...]
    classes: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Coding:
        """Of pairs of value and class."""
        ordered = sorted(dict(pairs).items())
        return cls(tuple(code for code, _ in ordered), tuple(one for _, one in ordered))

    def __call__(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The classes, uint8, of values of any shape, all of which are among the codes."""
        codes = np.asarray(self.codes, np.int64)
        return np.asarray(self.classes, np.uint8)[np.searchsorted(codes, values)]

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Those of the values that are no class."""
        known = set(self.codes)
        return sorted(value for value in values if value not in known)


def packed(color: Sequence[int]) -> int:
    """A color as one number."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpacked(code: int) -> list[int]:
    """The color that :func:`packed` made a number."""
    return [code >> 16, code >> 8 & 255, code & 255]


@dataclass(frozen=True)
class Meaning:
    """What pixel values mean: the classes, and the coding of numbers and of colors."""

    classes: Classes
    gray: Coding
    colored: Coding


def find_meaning(
    classes: Classes,
    values: Sequence[int] | None,
    ignore: int | str | Sequence[int | str] | None,
    seen: Collection[int],
) -> tuple[Meaning, str]:
    """What the values of masks mean, and what is to be told of a guess (or nothing).

    ``classes`` are named by the user, or not; ``values`` are those of the classes in order;
    ``ignore`` are values, or names of classes, that count for nothing. ``seen`` are the values of
    the training masks that are numbers, not colors. Raises ValueError where nobody can tell.
    """
    given = [ignore] if isinstance(ignore, (int, str)) else list(ignore or ())
    names = [name for name in given if isinstance(name, str)]
    for name in names:
        if name not in classes.names:
            hint = did_you_mean(name, classes.names) or f"There are {', '.join(classes.names)}."
            raise ValueError(f"ignore: there is no class {name!r}. {hint}")
    ignored = {value for value in given if not isinstance(value, str)}
    told = ""
    found = sorted(set(seen) - ignored)
    if seen and not found and not classes.names:
        raise ValueError("ignore leaves no pixel of a training mask: there is nothing to learn")
    if values is None:
        values, told = _values(classes, found)
    own = list(classes.names) or [str(value) for value in values]
    if len(own) != len(values):
        raise ValueError(
            f"values: there are {len(values)} for {len(own)} classes; each class has one"
        )
    if len(set(values)) < len(values):
        raise ValueError("values: each class has its own")
    for name, value in zip(own, values, strict=True):
        if value in ignored and name not in names:
            names.append(name)
    kept = [place for place, name in enumerate(own) if name not in names]
    if len(kept) < 2:
        raise ValueError(
            f"there are less than two classes: {', '.join(own[place] for place in kept) or 'none'}"
        )
    if len(kept) > MOST:
        raise ValueError(f"there are {len(kept)} classes; {MOST} at most can be told apart")
    numbers = {place: number for number, place in enumerate(kept)}
    coded = [numbers.get(place, IGNORED) for place in range(len(own))]
    gray = [*zip(values, coded, strict=True), *((value, IGNORED) for value in ignored)]
    colors = [(packed(c), k) for c, k in zip(classes.colors, coded, strict=False)]
    kept_colors = tuple(classes.colors[place] for place in kept) if classes.colors else ()
    final = Classes(tuple(own[place] for place in kept), kept_colors)
    return Meaning(final, Coding.of(gray), Coding.of(colors)), told


def _values(classes: Classes, found: Sequence[int]) -> tuple[list[int], str]:
    """The values of the classes where nobody says them."""
    count = len(classes.names)
    two = len(found) == 2 and found[0] == 0 and found[1] > 1 and count in (0, 2)
    if two:
        first, second = classes.names or ("0", str(found[1]))
        return list(found), (
            f"masks have two values: 0 is class 0, {first}, and {found[1]} class 1, {second} "
            f"(data.values=[0,{found[1]}])."
        )
    if count:
        return list(range(count)), ""
    largest = max(found, default=0)
    missing = largest + 1 - len(found)
    if largest >= MOST or missing > len(found):
        shown = ",".join(map(str, found[:12])) + (",…" if len(found) > 12 else "")
        raise ValueError(
            f"the masks have {len(found):,} values, up to {largest:,}: which are classes? "
            f"data.values=[{shown}] names them, data.ignore={largest} leaves one out, and "
            "data.classes_file=FILE gives colors of classes"
        )
    return list(range(largest + 1)), ""
