"""``dltrain list [GROUP [NAME]]``: what there is to choose from, and where it comes from.

The same as ``dltrain help``, by group, with origins, and for programs to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.commands.arguments import Parser
from dltrain.commands.choices import described, head, require_choice, summary
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.help import GROUPS, choice_page, heading
from dltrain.commands.tables import Column, near, screen_width, show_json, show_table
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

OWN = "your own"
"""What a group is that only a user's folder has."""


def show(arguments: Sequence[str]) -> int:
    """Print groups, a group's choices, or all there is to know of one; return the exit code.

    Raises :class:`UserError` where there is no such group or choice.
    """
    folder, rest = take_value(arguments, CONFIG_DIR)
    asked = _parser().parse(rest)
    from dltrain.config import compose as composition

    composition.use_folder(folder)
    group, name = _meant(asked.more)
    if not group:
        _groups(asked.json)
        return 0
    of = composition.choices(group)
    if not of:
        hint = did_you_mean(group, composition.groups()) or "See dltrain list."
        raise UserError(f"list: {group}: there is no such group. {hint}")
    if not name:
        _group(group, of, asked.json)
        return 0
    require_choice("list", group, name, of)
    choice = described(group, name, of[name])
    origin = composition.origin(group, name)
    if asked.json:
        known = vars(choice) | {"keys": [vars(key) for key in choice.keys], "origin": origin}
        show_json(known)
    else:
        print(choice_page(choice), end="")
        print(f"\nFrom {near(origin)}.")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "list",
        "Every choice of every group, with one line and where it comes from: built-in, a file of "
        "a --config-dir, or a package. Of one choice its arguments, their types and defaults.",
        ["model", "model mlp --json", "data --config-dir configs"],
        more="[GROUP [NAME]]",
        run="",
        output_dir=False,
    )
    # Taken before the rest is parsed, for it may stand anywhere.
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own config files")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    return parser


def _meant(words: Sequence[str]) -> tuple[str, str]:
    """Group and name of ``model mlp``, or of ``model=mlp``; empty where there is none."""
    split = [part for word in words for part in word.partition("=")[::2] if part]
    if len(split) > 2:
        raise UserError(f"list: one GROUP and one NAME, not {' '.join(words)}.")
    return (*split, "", "")[0], (*split, "", "")[1]


def _groups(as_json: bool) -> None:
    from dltrain.config import compose as composition

    defaults = composition.default_choices()
    rows: list[dict[str, Any]] = [
        {
            "group": group,
            "about": GROUPS.get(group, OWN),
            "choices": sorted(composition.choices(group)),
            "default": defaults.get(group),
        }
        for group in sorted(composition.groups(), key=lambda g: [*GROUPS, g].index(g))
    ]
    if as_json:
        show_json(rows)
        return
    columns = [Column("group"), Column("about"), Column("choices", folds=True)]
    table = []
    for row in rows:
        names = (f"{name}*" if name == row["default"] else name for name in row["choices"])
        table.append([row["group"], row["about"], " ".join(names)])
    show_table(columns, table, screen_width())
    print("\n* where nothing is typed")
    print("dltrain list GROUP: each with a line and where it is from")


def _group(group: str, of: Mapping[str, str], as_json: bool) -> None:
    from dltrain.config import compose as composition

    default = composition.default_choices().get(group)
    origins = {name: composition.origin(group, name) for name in sorted(of)}
    if as_json:
        rows: list[dict[str, Any]] = [
            {"name": name, "about": head(of[name])[0], "origin": origin, "default": name == default}
            for name, origin in origins.items()
        ]
        show_json(rows)
        return
    print(f"{heading(group, default)}\n")
    places = {name: near(origin) for name, origin in origins.items()}
    taken = max(map(len, origins)) + max(map(len, places.values())) + 4
    space = max(screen_width() - taken, 20)
    rows_shown = [[name, place, summary(of[name], space)] for name, place in places.items()]
    show_table([Column("name"), Column("from"), Column("about")], rows_shown, screen_width())
    print(f"\ndltrain list {group} {default or min(of)}: what one is, and its keys")
