"""The help pages, made from the comments in the config files and from constructors' annotations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from dltrain.commands.choices import Choice, described, require_choice, summary
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.table import COMMANDS
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError
from dltrain.pages import FIRST, address

WIDTH = 80
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
    "federated": "clients, and their average",
    "experiment": "a recipe with its result",
}

PAGE = """\
dltrain trains deep-learning models: choose the parts, change any value.
  dltrain model=lenet5 data=mnist optimizer.lr=0.01   one run, kept in outputs
  dltrain -m model=lenet5,mlp seed=1,2,3              all combinations

Commands (dltrain help runs: one explained)
{commands}

Groups (dltrain help model: the choices; dltrain help model=mlp: one explained)
{groups}
  --config-dir DIR     your own config files; they win over the built-in ones
"""


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
    commands = {name: command.summary for name, command in COMMANDS.items()}
    documentation = f"  Documentation: {address(FIRST)}"
    return PAGE.format(
        commands=_in_two_columns(commands), groups=_in_two_columns(known, documentation)
    )


def _in_two_columns(meanings: Mapping[str, str], *last: str) -> str:
    """Names with a few words each, down the left half of the screen and then the right."""
    wide = max(11, *map(len, meanings))
    cells = [*(f"  {name:<{wide}} {meaning}" for name, meaning in meanings.items()), *last]
    half = (len(cells) + 1) // 2
    rows = zip_longest(cells[:half], cells[half:], fillvalue="")
    return "\n".join(f"{left:<40}{right}".rstrip() for left, right in rows)


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
        require_choice("help", group, name, of)
        yield choice_page(described(group, name, of[name]))


def _group(group: str, choices: Mapping[str, str]) -> str:
    """A line for each choice: what does not fit is on the choice's own page."""
    from dltrain.config.compose import default_choices

    default = default_choices().get(group)
    wide = max(map(len, choices))
    space = max(WIDTH - wide - 4, 20)
    rows = (f"  {n:<{wide}}  {summary(text, space)}".rstrip() for n, text in choices.items())
    more = f"dltrain help {group}={default or min(choices)}: what one is, and its keys"
    return "\n".join([heading(group, default), "", *sorted(rows), "", more, ""])


def heading(group: str, default: str | None) -> str:
    """What is chosen, and what where nothing is typed."""
    said = [GROUPS[group]] if group in GROUPS else []
    said += [f"{default} where nothing is typed"] if default else []
    return f"{group}=  {'; '.join(said)}".rstrip()


def choice_page(choice: Choice) -> str:
    """What a choice is, and its keys: default, type, comment."""
    title = f"{choice.group}={choice.name}" + (f"  ({choice.target})" if choice.target else "")
    lines = textwrap.wrap(title, WIDTH, subsequent_indent="  ")
    for line in choice.about:
        lines += textwrap.wrap(line, WIDTH) if line else [""]
    if choice.chooses:
        chosen = f"Chooses {' '.join(choice.chooses)}"
        lines += ["", *textwrap.wrap(chosen, WIDTH, subsequent_indent="  ")]
    lines.append("")
    for key in choice.keys:
        value = "" if key.required else key.value
        kind = f"must be given: {key.type}" if key.required else key.type
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
