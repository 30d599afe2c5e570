"""Try every command that stands on the course's pages.

    python scripts/check_course.py            # does each compose?
    python scripts/check_course.py --run      # and do those whose data is here train two steps?

"Change it" lists what to add to a page's first command, or to that of the name in
``<!-- to: NAME -->`` above the list; or whole commands. ``--run`` keeps what it
found in scripts/course_commands.json. tests/test_course.py looks each key and choice up, which
takes a second; this takes minutes.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import course
import forks
from dltrain.commands.choices import keys_in
from dltrain.commands.table import COMMANDS
from dltrain.config.compose import check, choices
from dltrain.config.compose.grammar import parse, variants
from dltrain.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / "scripts" / "course_commands.json"
CHANGE_IT = "## Change it\n"
MADE = ("shapes", "printed", "scenes", "tones", "textures", "paintings/houses")
"""Folders of images and sounds that scripts/course_data.py makes; what is decoded is cached."""
OVERRIDE = re.compile(r"[+~]?[\w./@]+=\S+$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="their numbers; all of them where none is given")
    parser.add_argument("--run", action="store_true", help="train two steps of each")
    asked = parser.parse_args()
    if asked.run:
        forks.prepare()
        forks.import_everything(but_little=True)
    failed = 0
    for file in sorted(course.LANGUAGES["en"].glob("[0-9]*.md")):
        if asked.pages and file.name[:2] not in asked.pages:
            continue
        found = checked(file, asked.run)
        failed += len(found["failed"])
        if asked.run:
            known = json.loads(FOUND.read_text()) if FOUND.exists() else {}
            known[file.name[:2]] = found
            FOUND.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
        print(f"{file.name}: {found}", flush=True)
    sys.exit(1 if failed else 0)


def checked(file: Path, run: bool) -> dict[str, Any]:
    """How many commands of a page compose, and were run; those that failed, with their messages."""
    found: dict[str, Any] = {"composed": 0, "ran": 0, "needs other data": 0, "failed": []}
    with tempfile.TemporaryDirectory() as folder:
        for line in course.commands_of(file):
            if line.startswith("python"):
                course.run(line, Path(folder))
        for words in commands(file):
            fault = refused(words)
            found["composed"] += not fault
            trains = not fault and (not words or "=" in words[0] or words[0] == "-m")
            if run and trains:
                line = first_of(words)
                fault = "" if line is None else tried(line, Path(folder))
                found["needs other data"] += line is None
                found["ran"] += line is not None and not fault
            if fault:
                found["failed"].append(f"dltrain {shlex.join(words)}: {fault}")
    return found


def commands(file: Path) -> Iterator[list[str]]:
    """Every command of a page, as words behind ``dltrain``, each once."""
    text = file.read_text(encoding="utf-8")
    lines = [line for line in course.commands_of(file) if line.startswith("dltrain")]
    named = re.search(r"^<!-- to: (\w+) -->$", text, re.M)
    base = shlex.split(next(x for x in lines if named is None or f"name={named[1]}" in x))
    found = [shlex.split(line) for line in lines]
    prose = course.BLOCK.sub("", text)
    found += [shlex.split(s) for s in re.findall(r"`(dltrain [^`\n]+)`", prose)]
    for added in changes(text):
        if OVERRIDE.match(added[0]):
            keys = {word.partition("=")[0] for word in added}
            kept = [word for word in base if word.partition("=")[0] not in keys]
            found.append([*kept, *added])
    seen = set()
    for words in found:
        if tuple(words) not in seen:
            seen.add(tuple(words))
            yield words[1:]


def changes(text: str) -> list[list[str]]:
    """The first code of each thing to change."""
    below = text.partition(CHANGE_IT)[2].partition("\n## ")[0]
    items = re.findall(r"^- (.*?)(?=^- |\Z)", below, re.M | re.S)
    return [shlex.split(re.search(r"`([^`]+)`", item)[1]) for item in items]


def refused(words: list[str]) -> str:
    """What is wrong with a command line, or nothing."""
    if words and "=" not in words[0] and words[0] not in (*COMMANDS, "-m"):
        return f"there is no command {words[0]}"
    try:
        check([word for word in words if OVERRIDE.match(word)], multirun="-m" in words)
    except ConfigError as error:
        return "; ".join(map(str, error.faults))
    return ""


def looked_up(words: list[str], known: set[str]) -> list[str]:
    """Keys and choices of a command line that there are not; nothing is composed."""
    wrong = []
    for one in parse([word for word in words if OVERRIDE.match(word)])[0]:
        group = one.key_or_group.partition("@")[0]
        named = named_in(group)
        if not named:
            wrong += [] if one.key_or_group in known else [one.key_or_group]
            continue
        for value in re.split(r"[,\[\]]", one.input_line.partition("=")[2].strip("'\"")):
            wrong += [f"{group}={value}"] if value and value not in named else []
    return wrong


@functools.cache
def named_in(group: str) -> frozenset[str]:
    """The choices of a group; none where it is no group."""
    return frozenset(choices(group))


def known_keys() -> set[str]:
    """Every key that a config file has."""
    found = set()
    for file in (ROOT / "configs").rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        node = ".".join(file.parent.relative_to(ROOT / "configs").parts)
        found |= {key.name for key in keys_in(text, "" if "_global_" in text[:40] else node)}
    return found


def first_of(words: list[str]) -> list[str] | None:
    """The first of a sweep's command lines; nothing where its data is not bundled or generated."""
    overrides = parse([word for word in words if OVERRIDE.match(word)])[0]
    line = variants(overrides)[0]
    data = check(line, multirun=False)["data"]
    module = str(data["_target_"]).lower()
    path = data.get("path") or data.get("content") or ""
    own = ("tables.", "digits", "adding", "toy_reviews", "environments.")
    bundled = any(name in module for name in own)
    elsewhere = path.startswith(("/", "~", "$", "DIR")) or (path and data.get("root") is not None)
    if (elsewhere and path not in MADE) or (not path and not bundled):
        return None
    return line


def tried(line: list[str], folder: Path) -> str:
    """What went wrong in two steps, or nothing."""
    kept = [word for word in line if not word.startswith(("callbacks", "trainer.epochs"))]
    typed = [*kept, "trainer.steps=2", "callbacks=none"]
    ended = forks.wait(forks.start(typed, folder, folder / "said"), folder / "said")
    if "the run's 2 steps" in ended.text:  # of a run with phases, which two do not hold
        typed.remove("trainer.steps=2")
        ended = forks.wait(forks.start(typed, folder, folder / "said"), folder / "said")
    return "" if ended.code == 0 else ended.text[-500:]


if __name__ == "__main__":
    main()
