"""``dltrain new KIND NAME``: a part of one's own, as two files that run as they stand."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from dltrain.commands.arguments import Parser
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

GROUPS = {"model": "model", "data": "data", "task": "task", "callback": "callbacks"}
"""What there is a template of, and the group that its YAML file belongs to."""
USES = {
    "model": "model={name}",
    "data": "data={name} model=mlp",
    "task": "task={name} model=mlp data=diabetes",
    "callback": "callbacks=[default,{name}]",
}
TEMPLATES = "dltrain.commands"


def new(arguments: Sequence[str]) -> int:
    """Write the files and say how they are used; return the exit code.

    Raises :class:`UserError` where a file is there already, or the name is none.
    """
    asked = _parser().parse(arguments)
    kind, name = _meant(asked.more)
    folder = Path(asked.config_dir).expanduser()
    contents = {
        Path(f"{name}.py"): _template(f"{kind}.py.txt", name),
        folder / GROUPS[kind] / f"{name}.yaml": _template(f"{kind}.yaml.txt", name),
    }
    for path in contents:
        if path.exists() or path.is_symlink():
            raise UserError(
                f"new: {path} is there already, and stays as it is. Choose another name."
            )
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            print(f"Wrote {path}")
    except OSError as error:
        raise UserError(f"new: {path} cannot be written: {error.strerror}.") from error
    command = ["dltrain", "--config-dir", str(folder), *USES[kind].format(name=name).split()]
    print(f"\nTrain with it, here:\n  {shlex.join(command)}")
    print(f"Use such a run again, as resume does:\n  export DLTRAIN_PACKAGES={name}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "new",
        "A model, data set, task or callback of your own: NAME.py in this folder, and a YAML file "
        "that makes it a choice. Both run as they stand; then change them. KIND is one of "
        f"{', '.join(GROUPS)}. Nothing that is there is overwritten.",
        ["model mynet", "data mydata --config-dir my/configs"],
        more="KIND NAME",
        run="",
        output_dir=False,
    )
    parser.add_argument(
        "--config-dir", "-cd", default="configs", metavar="DIR",
        help="where your config files lie (default configs)",
    )  # fmt: skip
    return parser


def _meant(words: Sequence[str]) -> tuple[str, str]:
    """Kind and name. Raises :class:`UserError` for a name that cannot be used, and says why."""
    if len(words) != 2:
        raise UserError(f"new: give a KIND, one of {', '.join(GROUPS)}, and a NAME.")
    kind, name = words
    kind = {group: kind for kind, group in GROUPS.items()}.get(kind, kind)
    if kind not in GROUPS:
        hint = did_you_mean(kind, GROUPS) or f"There are {', '.join(GROUPS)}."
        raise UserError(f"new: {kind}: there is no template of this kind. {hint}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"new: {name}: a name is a to z, 0 to 9 and _, begins with a letter and is no word of "
            "Python's, for it names a module."
        )
    if name in sys.stdlib_module_names or name in vars(builtins) or importlib.util.find_spec(name):
        raise UserError(f"new: {name}: Python has a module of this name already; it would win.")
    from dltrain.config.compose import choices

    if name in choices(GROUPS[kind]):
        raise UserError(f"new: {GROUPS[kind]}={name} is built in. Choose another name.")
    return kind, name


def _template(file: str, name: str) -> str:
    text = files(TEMPLATES).joinpath("templates", file).read_text(encoding="utf-8")
    words = "".join(part.capitalize() for part in name.split("_"))
    return text.replace("@NAME@", name).replace("@CLASS@", words)
