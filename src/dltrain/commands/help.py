"""The help pages, made from the comments in the config files and from constructors' annotations."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.table import COMMANDS, Command
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

WIDTH = 80
CITATION = re.compile(r" \([^()]*\b\d{4}\b[^()]*\)")
GROUPS = {
    "model": "what learns",
    "data": "what it learns from",
    "task": "loss and metrics",
    "optimizer": "how weights are stepped",
    "schedule": "learning rate over time",
    "regularizer": "against overfitting",
    "modifier": "what else acts on weights",
    "callbacks": "logs, figures, stopping",
    "trainer": "epochs, precision, speed",
    "experiment": "a recipe with its result",
}

PAGE = """\
dltrain trains deep-learning models: choose the parts, change any value.

  dltrain model=lenet5 data=mnist optimizer.lr=0.01   one run, kept in outputs
  dltrain -m model=lenet5,mlp seed=1,2,3              all combinations
  dltrain experiment=lenet5_mnist                     a recipe with its result

Commands (RUN is a run's folder, or latest)
{commands}

Groups (dltrain help model: the choices; dltrain help model=mlp: one explained)
{groups}

Options
  --cfg job            show the composed config, train nothing
  --config-dir DIR     your own config files; they win over the built-in ones
  -sc install=bash     for eval "$(...)": the shell completes keys and choices
"""


@dataclass
class Key:
    """A key of a config file as it is typed, the text of its value, and its comment."""

    name: str
    value: str
    comment: str


def show(arguments: Sequence[str]) -> int:
    """``dltrain help [TOPIC …]``: the page, or that of each command, group or choice asked for.

    Raises :class:`UserError` where there is no such thing.
    """
    folder, topics = take_value(arguments, CONFIG_DIR)
    topics = [topic for topic in topics if topic not in ("--help", "-h")]
    if len(topics) == 1 and topics[0] in COMMANDS and topics[0] not in ("train", "help"):
        return COMMANDS[topics[0]](["--help"])
    general = topics in ([], ["train"], ["help"])
    if folder is not None or not general:
        from dltrain.config.compose import use_folder

        use_folder(folder)
    if general:
        print(page(folder is not None), end="")
        return 0
    print("\n".join(part for topic in topics for part in _pages(topic)), end="")
    return 0


def page(own: bool = False) -> str:
    """The first page, one screen of 80 by 24; with ``own`` groups of the user's, if there are."""
    known = dict(GROUPS)
    if own:
        from dltrain.config.compose import groups

        known |= {name: "your own" for name in groups() if name not in known}
    cells = [f"  {name:<12} {meaning}" for name, meaning in known.items()]
    half = (len(cells) + 1) // 2
    rows = zip_longest(cells[:half], cells[half:], fillvalue="")
    return PAGE.replace(
        "{commands}", "\n".join(_line(*entry) for entry in COMMANDS.items())
    ).replace("{groups}", "\n".join(f"{left:<40}{right}".rstrip() for left, right in rows))


def _line(name: str, command: Command) -> str:
    typed = f"  dltrain {name} {command.arguments}"
    return f"{typed:<31}{command.summary}"


def _pages(topic: str) -> Iterator[str]:
    from dltrain.config.compose import choices, groups

    key, chosen, names = topic.lstrip("+~").partition("=")
    group = key if choices(key) else key.partition(".")[0]
    of = choices(group)
    if not of:
        hint = did_you_mean(key, [*COMMANDS, *groups()]) or "See dltrain help."
        raise UserError(f"help: {key} is no command and no group. {hint}")
    if not chosen or group != key:
        yield _group(group, of)
        return
    for name in names.strip("[]").split(","):
        if name not in of:
            hint = did_you_mean(name, of) or f"See dltrain help {group}."
            raise UserError(f"help: {group}={name}: there is no such choice. {hint}")
        yield _choice(group, name, of[name])


def _group(group: str, choices: Mapping[str, str]) -> str:
    """A line for each choice: what does not fit is on the choice's own page."""
    from dltrain.config.compose import default_choices

    meaning, default = GROUPS.get(group, ""), default_choices().get(group)
    said = [meaning] if meaning else []
    said += [f"{default} where nothing is typed"] if default else []
    wide = max(map(len, choices))
    lines = [f"{group}=  {'; '.join(said)}".rstrip(), ""]
    for name, text in sorted(choices.items()):
        space = WIDTH - wide - 4
        summary = _head(text)[0]
        if len(summary) > space:
            summary = CITATION.sub("", summary)
        summary = textwrap.shorten(
            summary, max(space, 20), placeholder=" …", break_on_hyphens=False
        )
        lines.append(f"  {name:<{wide}}  {summary}".rstrip())
    return "\n".join(
        [
            *lines,
            "",
            f"dltrain help {group}={default or min(choices)}: what one is, and its keys",
            "",
        ]
    )


def _choice(group: str, name: str, text: str) -> str:
    """What a choice is, and its keys: default, type, comment."""
    from dltrain.config.annotations import types_of
    from dltrain.config.build import TARGET
    from dltrain.config.compose import files_of, targets

    keys: dict[str, Key] = {}
    files = files_of(group, name)
    for file in files:
        for key in _keys(file.text, file.package):
            before = keys.get(key.name)
            key.comment = key.comment or (before.comment if before else "")
            keys[key.name] = key
    classes = targets(group, name)
    made = keys.get(f"{group}.{TARGET}")
    title = f"{group}={name}" + (f"  ({made.value})" if made else "")
    lines = textwrap.wrap(title, WIDTH, subsequent_indent="  ")
    for line in _head(text):
        lines += textwrap.wrap(line, WIDTH) if line else [""]
    chosen = " ".join(_overridden(text))
    if chosen:
        lines += ["", *textwrap.wrap(f"Chooses {chosen}", WIDTH, subsequent_indent="  ")]
    lines.append("")
    # The choice's own keys come before those of the files that it builds on.
    own = {
        key.name for file in files if file.text == text for key in _keys(file.text, file.package)
    }
    for key in sorted(keys.values(), key=lambda key: key.name not in own):
        parent, _, last = key.name.rpartition(".")
        if last == TARGET:
            continue
        kind = _kind(types_of(classes[parent]).get(last)) if parent in classes else ""
        value = "" if key.value == "???" else key.value
        kind = f"must be given: {kind}" if key.value == "???" else kind
        lines += textwrap.wrap(
            f"  {key.name}={value}" + (f"  ({kind})" if kind else ""),
            WIDTH,
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
        lines += textwrap.wrap(
            key.comment, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    return "\n".join([*lines, ""])


def _kind(annotation: Any) -> str:
    from dltrain.config.build import UNSAID, expected

    said = expected(annotation) if annotation is not None else ""
    return "" if said == UNSAID else said


def _head(text: str) -> list[str]:
    """The comment at the head of a config file: its paragraphs, and indented lines as they are."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line[1:].removeprefix(" ").rstrip())
    paragraphs: list[str] = []
    for plain, part in groupby(lines, key=lambda line: bool(line) and not line.startswith(" ")):
        rows = list(part)
        paragraphs += [" ".join(rows)] if plain else rows
    return paragraphs or [""]


def _overridden(text: str) -> Iterator[str]:
    """What a file chooses of other groups, as one would type it."""
    import yaml

    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        for name, choice in entry.items() if isinstance(entry, dict) else ():
            if name.startswith("override "):
                group = name.removeprefix("override ").lstrip("/").partition("@")[0]
                listed = f"[{','.join(choice)}]" if isinstance(choice, list) else choice
                yield f"{group}={listed}"


def _keys(text: str, package: str) -> Iterator[Key]:
    """The keys of a config file, with the comment that stands behind each value or above it."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    lines = text.splitlines()

    def inside(node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for name, value in node.value:
            key = f"{prefix}.{name.value}" if prefix else name.value
            if (prefix == package and name.value == "defaults") or key == "hydra":
                continue
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from inside(value, key)
                continue
            shown = " ".join(text[value.start_mark.index : value.end_mark.index].split())
            behind = lines[value.end_mark.line][value.end_mark.column :].strip()
            comment = behind.lstrip("# ") if behind.startswith("#") else ""
            yield Key(key, shown, comment or _above(lines, name.start_mark.line))

    if isinstance(root, yaml.MappingNode):
        yield from inside(root, package)


def _above(lines: Sequence[str], row: int) -> str:
    """The comment right above line ``row``, unless it is the file's head."""
    first = row
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip(" #") for line in lines[first:row]) if first else ""
