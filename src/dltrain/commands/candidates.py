"""What a half-typed command line can go on with."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from dltrain.commands.config_dir import CONFIG_DIR
from dltrain.commands.table import COMMANDS
from dltrain.errors import UserError

OPTIONS = ("--help", "--version", "-m", "--cfg", "--config-dir")
"""Of a line without a command; of a command they are read from its help."""
SHELLS = ("bash", "zsh", "fish")
KEYS_OF_RUNS = ("--sort", "--filter", "--metric")
TAKES_RUN = ("init_from",)
"""Keys whose value may be a run; and all that end in ``.run``."""
MOST_RUNS = 200


def candidates(line: str) -> list[str]:
    """Words that the last word of ``line``, from the program's name to the cursor, may become.

    One that ends in ``=``, ``.``, ``/`` or ``,`` is to be gone on with.
    """
    words = _words(line)[1:]
    before, word = words[:-1], words[-1] if words else ""
    _use_folder(before)
    found = _after(before, word)
    return list(dict.fromkeys(one for one in found if one.startswith(word)))


def _words(line: str) -> list[str]:
    """The words of a line as a shell splits it, an empty one where one is to begin."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        begins = not closing and (not line or line[-1].isspace()) and not line.endswith("\\ ")
        return [*words, ""] if begins else words
    return line.split()


def _use_folder(words: Sequence[str]) -> None:
    from dltrain.config.compose import use_folder

    folder = None
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in CONFIG_DIR:
            folder = value if equals else next(iter(words[place + 1 :]), None)
    with contextlib.suppress(UserError):
        use_folder(folder)


def _after(before: Sequence[str], word: str) -> Iterable[str]:
    last = before[-1] if before else ""
    if last in (*CONFIG_DIR, "--output-dir", "--out"):
        return ()  # a path: the shell's own business
    if last == "--cfg":
        return ("job", "hydra", "all")
    if not before:
        return [*COMMANDS, *OPTIONS, *_overrides((), word)]
    if before[0] not in COMMANDS:
        return [*OPTIONS, *_overrides(before, word)]
    command, rest = before[0], before[1:]
    if word.startswith("-"):
        return _options(command)
    if last in KEYS_OF_RUNS:
        return _keys_of_runs(rest, "=" if last == "--filter" else "")
    special = SPECIAL.get(command)
    if special is not None:
        return special(rest, word)
    if COMMANDS[command].arguments.startswith("RUN"):
        taken = [one for one in rest if not one.startswith("-")]
        several = COMMANDS[command].arguments.startswith("RUN RUN")
        return _runs(_output_dir(rest), word) if several or not taken else ()
    return _overrides(rest, word)


def _options(command: str) -> list[str]:
    """As the command's own help has them."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        COMMANDS[command](["--help"])
    lines = [line for line in page.getvalue().splitlines() if re.match(r"  +-", line)]
    return list(dict.fromkeys(re.findall(r"(?<!\S)--[a-z][\w-]*", "\n".join(lines))))


def _output_dir(words: Sequence[str]) -> Path:
    joined = "\n".join(words)
    found = re.search(r"^(?:--output-dir[=\n]|output_dir=)(.+)$", joined, re.MULTILINE)
    return Path(found[1] if found else "outputs").expanduser()


def _runs(output_dir: Path, word: str) -> Iterator[str]:
    """``latest`` and the newest runs by ``name/time``; as somebody began, by time or path."""
    from dltrain.runs.folder import LATEST
    from dltrain.runs.listing import run_paths

    newest = sorted(run_paths(output_dir), key=lambda path: path.name, reverse=True)[:MOST_RUNS]
    if newest:
        yield LATEST
    for path in newest:
        yield path.relative_to(output_dir).as_posix()
        if word:
            yield from (path.as_posix(), path.name)


def _keys_of_runs(words: Sequence[str], end: str) -> list[str]:
    from dltrain.runs.listing import runs_below
    from dltrain.runs.query import known_keys

    return [f"{key}{end}" for key in known_keys(runs_below(_output_dir(words)))]


def _groups(rest: Sequence[str], word: str) -> Iterator[str]:
    """``list GROUP NAME``."""
    from dltrain.config.compose import all_groups, choices

    given = [one for one in rest if not one.startswith("-")]
    if not given:
        yield from all_groups()
    elif len(given) == 1:
        yield from choices(given[0])


def _topics(rest: Sequence[str], word: str) -> Iterator[str]:
    """``help TOPIC``: a command, a group, a choice."""
    from dltrain.config.compose import all_groups, choices

    yield from COMMANDS
    group, equals, _ = word.partition("=")
    yield from (f"{group}={name}" for name in choices(group)) if equals else all_groups()


def _kinds(rest: Sequence[str], word: str) -> Iterable[str]:
    from dltrain.commands.new import GROUPS

    return () if rest else GROUPS


def _shells(rest: Sequence[str], word: str) -> Iterable[str]:
    return SHELLS


SPECIAL: dict[str, Callable[[Sequence[str], str], Iterable[str]]] = {
    "list": _groups,
    "help": _topics,
    "new": _kinds,
    "completion": _shells,
}
"""Commands whose words are neither runs nor overrides."""


def _overrides(before: Sequence[str], word: str) -> Iterator[str]:
    """``key=value``: groups and keys, then the choices of a group or the values of a key."""
    from dltrain.config import compose as composition

    sign = re.match(r"[+~]*", word)[0]  # type: ignore[index]  # matches always
    key, equals, typed = word[len(sign) :].partition("=")
    if not equals:
        known = composition.all_groups()
        yield from (f"{sign}{group}=" for group in known)
        yield from (f"{sign}{next_part}" for next_part in _next_parts(_config(before), key))
        return
    # Of a list or several values, the one that is being typed.
    opened = re.match(r"(?:.*[\[,]\s*)?", typed)[0]  # type: ignore[index]  # matches always
    given = set(re.split(r"[\[,\s]+", opened))
    values = composition.choices(key) or _values(key, before, typed)
    yield from (f"{sign}{key}={opened}{value}" for value in values if value not in given)


def _config(before: Sequence[str]) -> dict[str, Any]:
    """What the words before compose to, as far as they do."""
    from dltrain.config import compose as composition

    typed = [word for word in before if "=" in word and not word.startswith("-")]
    for lines in (typed, [line for line in typed if composition.choices(_key(line))], []):
        try:
            return composition.unresolved(composition.first_of(lines))
        except UserError:
            continue
    return {}


def _key(line: str) -> str:
    return line.lstrip("+~").partition("=")[0]


def _next_parts(config: dict[str, Any], typed: str) -> Iterator[str]:
    """Keys that begin as ``typed``, up to the next dot or the ``=``."""
    prefix, _, _ = typed.rpartition(".")
    node: Any = config
    for part in prefix.split(".") if prefix else ():
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        for name, value in node.items():
            if name != "_target_":
                whole = f"{prefix}.{name}" if prefix else str(name)
                yield f"{whole}." if isinstance(value, dict) and value else f"{whole}="


def _values(key: str, before: Sequence[str], typed: str) -> list[str]:
    """What a key may be, where that is a list of values, or a run."""
    if key in TAKES_RUN or key.endswith(".run"):
        return list(_runs(_output_dir(before), typed))
    from dltrain.config.annotations import types_of

    node: Any = _config(before)
    *parents, last = key.split(".")
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or "_target_" not in node:
        return []
    return list(_named_by(types_of(str(node["_target_"])).get(last)))


def _named_by(annotation: Any) -> Iterator[str]:
    """The values that an annotation lists, as one types them."""
    if annotation is bool:
        yield from ("true", "false")
    elif annotation in (None, type(None)):
        yield "null"
    elif typing.get_origin(annotation) is Literal:
        for value in typing.get_args(annotation):
            yield str(value).lower() if isinstance(value, bool) or value is None else str(value)
    else:
        for part in typing.get_args(annotation):
            if typing.get_origin(part) is not None or part in (bool, type(None)):
                yield from _named_by(part)
