"""``dltrain config [key=value …]``: the config that a command line composes, and what set it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from dltrain.commands.arguments import Parser
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.tables import letters, near, plain, screen_width, show_csv, show_json
from dltrain.config.compose import Blamed, blamed, check, launch, use_folder


def show(arguments: Sequence[str]) -> int:
    """Print the composed config; return the exit code.

    Raises :class:`UserError` with everything that is wrong with the overrides.
    """
    folder, rest = take_value(arguments, CONFIG_DIR)
    parser = _parser()
    asked = parser.parse(rest)
    overrides = parser.overrides(asked)
    use_folder(folder)
    if not (asked.blame or asked.json or asked.csv):
        check(overrides, multirun=False)
        launch([*overrides, "--cfg", "job"], lambda job: None)
        return 0
    lines = blamed(overrides)
    rows = [{"key": o.key, "value": o.value, "set_by": near(o.set_by)} for o in lines]
    if asked.json:
        show_json(rows)
    elif asked.csv:
        show_csv(({**row, "value": flow(row["value"], 10_000)[0]} for row in rows), ())
    else:
        print("\n".join(with_blame(lines, screen_width())))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "config",
        "The config that these overrides compose to, as training would get it. With --blame each "
        "line names the file or the override that set it; files are those of dltrain's configs.",
        ["experiment=lenet5_mnist", "model=mlp optimizer.lr=0.1 --blame"],
        more="[key=value …]",
        run="",
        output_dir=False,
    )
    add = parser.add_argument
    add("--blame", action="store_true", help="what set each line, as a comment behind it")
    # Taken before the rest is parsed, for it may stand anywhere.
    add("--config-dir", "-cd", metavar="DIR", help="your own config files")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="key, value, set_by, for a program")
    output.add_argument("--csv", action="store_true", help="the same for a spreadsheet")
    return parser


def with_blame(lines: Sequence[Blamed], width: int) -> Iterator[str]:
    """YAML whose values have what set them as a comment behind, in one column.

    Where a value is too long for that, the comment is below it.
    """
    comments = [f"# {near(line.set_by)}" for line in lines]
    shown = list(_yaml(lines, width))
    usual = [size for size in map(letters, comments) if size <= width * 2 // 5]
    column = width - max(usual, default=0)
    column = min(column, 2 + max(letters(part) for _, part in shown))
    for place, part in shown:
        comment = comments[place] if place is not None else ""
        if comment and letters(part) + 2 > column:
            yield part
            part = ""
        here = min(column, max(letters(part) + 2, width - letters(comment)))
        first, *more = textwrap.wrap(comment, width - here, subsequent_indent="# ") or [""]
        yield f"{part}{' ' * (here - letters(part))}{first}".rstrip()
        yield from (f"{' ' * here}{text}" for text in more)


def _yaml(lines: Sequence[Blamed], width: int) -> Iterator[tuple[int | None, str]]:
    """Lines of YAML, with the place in ``lines`` of the value that ends there."""
    above: tuple[Any, ...] = ()
    for place, line in enumerate(lines):
        parents, name = line.path[:-1], _name(line.path[-1])
        pairs = enumerate(zip(above, parents, strict=False))
        shorter = min(len(above), len(parents))
        same = next((depth for depth, (old, new) in pairs if old != new), shorter)
        for depth in range(same, len(parents)):
            yield None, f"{'  ' * depth}{_name(parents[depth])}:"
        above = parents
        indent = "  " * len(parents)
        first, *more = flow(line.value, width - len(indent) - len(name) - 2)
        rows = [f"{indent}{name}: {first}", *(f"{indent}  {text}" for text in more)]
        for row in rows[:-1]:
            yield None, plain(row)
        yield place, plain(rows[-1])


def _name(key: Any) -> str:
    """A key as YAML has it, in quotes where it needs them."""
    return flow(key, 10_000)[0]


def flow(value: object, width: int) -> list[str]:
    """``value`` as YAML without blocks, in lines of at most about ``width`` letters."""
    import yaml

    text = yaml.safe_dump(
        value,
        default_flow_style=True,
        allow_unicode=True,
        width=max(width - 8, 20),
        sort_keys=False,
    )
    return [line.strip() for line in text.removesuffix("...\n").strip().splitlines()]
