"""Damage one file of a run in some way, use the run, and see that no damage is taken silently.

    python scripts/damage_runs.py                          # 100 cases
    python scripts/damage_runs.py --count 2000 --jobs 2    # the long proof
    python scripts/damage_runs.py --case 17 --seed 0       # one case again, told step by step

A file of a finished or of an interrupted run has a bit flipped or a digit changed, is cut, emptied,
overwritten with zeros in parts, given more bytes, removed, or exchanged with another file of the
run or with its counterpart in a run of another seed. Then the run is resumed, prolonged, loaded,
evaluated, asked to predict, exported, listed or compared. This must

- be refused: exit 2, a few lines, one of which names the file, or its list of checksums; or
- give exactly what it gives for the undamaged run, be it from another file; or
- name the file in a warning, and go on.

Of a run that is resumed "what it gives" is its whole folder: weights, metrics.csv, tables, summary
and so on. What nothing reads again (``OUTPUTS``) may stay damaged itself, without a word.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import forks
import tiny_runs
from reliability import gathered, write_result

KINDS = {
    "lenet5": "digit.png",
    "mlp_modified": "digit.png",
    "csv_classes": "table.csv",
    "csv_numbers": "table.csv",
    "ngrams": "texts.txt",
    "attention": "texts.txt",
    "image_folder": "images/ant",
    "vae": "",
    "gan": "",
    "lstm_adding": "",
}
"""What runs are damaged, and what those that predict are asked of."""
GENERATIVE = ("vae", "gan")
OUTPUTS = ("figures/*", "events.out.*", "train.log", "environment.json", "*.html", ".lock")
"""What only people and other programs read."""
STOPPED_AT = {"vae": 5, "gan": 5, "lstm_adding": 4}
WEIGHTS = {"checkpoints/*": 4, "*.json": 3, "*.yaml": 3, "metrics.*": 3, "tables/*": 1}
"""How often a file is chosen, against 1 for figures and 2 for the rest; the first that fits."""
MOST_LINES = 6
NAMING_ALL = "checksums"
"""In the name of a file that stands for all others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print failures and a last line; 1 where there was a failure, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(KINDS), help="kinds of run")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args(arguments)
    forks.prepare()
    began = time.perf_counter()
    forks.import_everything()
    with tempfile.TemporaryDirectory(prefix="damage-runs-") as folder:
        outcomes = damage(asked, Path(folder))
    failures = [outcome for outcome in outcomes if outcome.failure]
    counts = Counter(outcome.how for outcome in outcomes)
    seconds = time.perf_counter() - began
    told = ", ".join(f"{number} {how}" for how, number in sorted(counts.items()))
    print(f"{len(outcomes)} damaged files in {seconds:.0f} s ({told}): {len(failures)} failures")
    if asked.record:
        result = {"damaged files": len(outcomes), **counts, "failures": len(failures)}
        write_result("damage_runs", {**result, "seed": asked.seed, "seconds": round(seconds)})
    return int(bool(failures))


@dataclass(frozen=True)
class Outcome:
    """What came of a case: a word, and a line where that is a failure."""

    how: str
    failure: str = ""


@dataclass(frozen=True)
class Given:
    """What a use of a run gave."""

    code: int
    text: str
    answer: dict[str, Any]


def damage(asked: argparse.Namespace, place: Path) -> list[Outcome]:
    with ProcessPoolExecutor(asked.jobs) as pool:
        made = place / "made"
        pool.submit(make, made, asked.only).result()
        numbers = range(asked.count) if asked.case is None else [asked.case]
        for name, state in sorted(
            {drawn(number, asked.seed, asked.only)[:2] for number in numbers}
        ):
            pool.submit(make_runs, name, state, made, place).result()
        told = asked.case is not None
        run_case = functools.partial(
            case, seed=asked.seed, only=asked.only, made=made, place=place, told=told
        )
        cases = [pool.submit(run_case, number) for number in numbers]
        return gathered(cases, lambda outcome: outcome.failure)


def make(made: Path, only: Sequence[str]) -> None:
    """The files that runs read, and what is predicted."""
    import numpy as np
    from PIL import Image

    tiny_runs.make(made, only)
    made.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(made / "digit.png")
    (made / "texts.txt").write_text("a fine film with no hope\nslow, dull plot\nbright point\n")


def make_runs(name: str, state: str, made: Path, place: Path) -> None:
    """Two runs, that differ by seed: finished, or interrupted on the way."""
    for seed in (3, 4):
        own = place / name / state / str(seed)
        own.mkdir(parents=True)
        words = tiny_runs.words(name, made, own, f"seed={seed}", "trainer.checkpoint_seconds=0")
        stop = functools.partial(stop_at, STOPPED_AT.get(name, 6))
        ended = forks.run(words, own, stop if state == "interrupted" else lambda: None)
        wanted = 128 + signal.SIGTERM if state == "interrupted" else 0
        if ended.code != wanted:
            raise RuntimeError(f"{name}, {state}: exit {ended.code}: {ended.text[-1000:]}")


def stop_at(step: int) -> None:
    """Have runs of this process killed as they begin the step after ``step`` others."""
    import os

    from dltrain.core.loop import Trainer

    train_step = Trainer._step

    def stepping(self: Trainer, *args: Any) -> None:
        train_step(self, *args)
        if self.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._step = stepping  # type: ignore[method-assign]


def uses_of(name: str, state: str, file: str) -> list[str]:
    """What may be done with a run in which ``file`` is damaged."""
    uses = ["load", "runs"]
    if state == "interrupted":
        return [*uses, "resume", "resume", "resume"]
    uses += ["compare", "evaluate", "prolong", "resume"]
    if KINDS[name]:
        uses += ["predict", "predict"]
    if name in GENERATIVE:
        uses += ["sample"]
    return ["export"] if file == "examples.pt" else uses


def use(how: str, name: str, made: Path, own: Path, told: bool = False) -> Given:
    """Do it with the run in ``own``; the folder ``other`` holds one to compare it with."""
    run = own / "outputs" / "run"
    folder = sorted(run.iterdir())[0]
    other = sorted((own / "other" / "run").iterdir())[0]
    one, two = (str(path.relative_to(own)) for path in (folder, other))
    commands = {
        "resume": ["resume", one],
        "prolong": ["resume", one, "trainer.steps=30"],
        "runs": ["runs", "--json", "--no-fold"],
        "compare": ["compare", one, two, "--json", "--out", "curves.png"],
        "evaluate": ["evaluate", one, "--no-files", "--json"],
        "predict": ["predict", one, str(made / KINDS[name]), "--json"],
        "sample": ["sample", one, "--n", "4", "--out", "sheet.png"],
        "export": ["export", one, "--format", "torch", "--json", "--out", "exported"],
        "load": ["load", one],
    }
    before = functools.partial(load, one) if how == "load" else lambda: None
    ended = forks.run(commands[how], own, before)
    if told:
        print(f"{shlex.join(commands[how])}: exit {ended.code}\n{ended.text}")
    text = ended.text.replace(str(own), "")
    answer: dict[str, Any] = {}
    if how == "sample" and (own / "sheet.png").exists():
        answer["sheet"] = (own / "sheet.png").read_bytes()
    elif how in ("resume", "prolong"):
        newest = max(run.iterdir())
        if ended.code == 0:
            answer = tiny_runs.contents(newest)
    else:
        found = [line for line in text.splitlines() if line.startswith(("{", "["))]
        answer = dict(tiny_runs.leaves([told_by(line) for line in found]))
    return Given(ended.code, text, answer)


def told_by(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def load(run: str) -> None:
    """``dltrain.load(run)`` from Python, in place of a command."""
    import hashlib

    import torch

    import dltrain
    from dltrain.errors import UserError

    try:
        predictor = dltrain.load(run)
    except UserError as error:
        print(f"dltrain: {error}")
        raise SystemExit(2) from None
    digest = hashlib.sha256()
    for key, value in predictor.task.state_dict().items():
        digest.update(key.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    print(json.dumps({"weights": digest.hexdigest()}))
    raise SystemExit(0)


@functools.cache
def undamaged(how: str, name: str, state: str, made: Path, place: Path) -> Given:
    """What a use gives for the run as it was, but what changes from time to time."""
    found = []
    for _ in range(2):
        own = copied(name, state, place)
        found.append(use(how, name, made, own))
        shutil.rmtree(own)
    one, other = found
    if one.code != other.code or (one.code and not (state == "finished" and how == "resume")):
        raise RuntimeError(f"undamaged, {name} {how}: exit {one.code}: {one.text[-2000:]}")
    constant = {k: v for k, v in one.answer.items() if tiny_runs.same(v, other.answer.get(k))}
    return Given(one.code, one.text, constant)


def copied(name: str, state: str, place: Path) -> Path:
    """A fresh copy of the run, with the one of another seed."""
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place))
    for seed, target in (("3", "outputs"), ("4", "other")):
        shutil.copytree(place / name / state / seed / "outputs", own / target)
    return own


def drawn(number: int, seed: int, only: Sequence[str]) -> tuple[str, str, random.Random]:
    """Which run a case damages: its kind and state; and what draws the rest."""
    draw = random.Random(f"{seed}/{number}")
    return only[number % len(only)], draw.choice(("finished", "interrupted")), draw


def case(number: int, seed: int, only: list[str], made: Path, place: Path, told: bool) -> Outcome:
    """Damage a file, use its run."""
    name, state, draw = drawn(number, seed, only)
    own = copied(name, state, place)
    again = f"python scripts/damage_runs.py --case {number} --seed {seed}"
    if only != list(KINDS):
        again += f" --only {' '.join(only)}"
    try:
        folder = sorted((own / "outputs" / "run").iterdir())[0]
        other = sorted((own / "other" / "run").iterdir())[0]
        files = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        file = draw.choices(files, [weight(one) for one in files])[0]
        what, touched = damaged(folder, file, other, files, draw)
        how = draw.choice(uses_of(name, state, file))
        expected = undamaged(how, name, state, made, place)
        if told:
            print(f"{name} ({state}): {file}: {what}; {how}")
        given = use(how, name, made, own, told)
        failure = fault_of(given, expected, touched)
        if failure:
            line = f"{name} ({state}): {file}: {what}; {how}: {failure}: {again}"
            return Outcome("failed", line)
        if given.code != expected.code:
            return Outcome("refused")
        return Outcome("the same" if not names(given.text, touched) else "told and used")
    except Exception as error:
        return Outcome("failed", f"{name}: {type(error).__name__}: {error}: {again}")
    finally:
        shutil.rmtree(own, ignore_errors=True)


def weight(file: str) -> int:
    """How often a file is chosen."""
    if any(fnmatch(file, pattern) for pattern in OUTPUTS):
        return 1
    return next((w for pattern, w in WEIGHTS.items() if fnmatch(file, pattern)), 2)


def fault_of(given: Given, expected: Given, touched: list[str]) -> str:
    """What is wrong with an answer after damage to files; empty where nothing is."""
    if given.code not in (0, 2) or "Traceback" in given.text:
        last = (given.text.strip().splitlines() or [""])[-1]
        return f"exit {given.code}: {last}"
    if given.code == 2:
        if expected.code == 2 and given.text == expected.text:
            return ""
        said = [line for line in given.text.splitlines() if line.strip()]
        begin = next((n for n, line in enumerate(said) if line.startswith("dltrain:")), 0)
        if len(said[begin:]) > MOST_LINES:
            return f"{len(said) - begin} lines: {said[begin][:200]} …"
        if not names("\n".join(said[begin:]), touched):
            return f"the file is not named: {' / '.join(said[begin:])[:400]}"
        return ""
    outputs = {one for one in touched if any(fnmatch(one, pattern) for pattern in OUTPUTS)}
    lines = [
        line
        for line in tiny_runs.differences(expected.answer, given.answer, extras=False)
        if not any(line.startswith(f"{one} ") for one in outputs)
        and not (line.startswith("event ") and any("events.out" in one for one in outputs))
    ]
    if expected.code == 2:
        lines.append("it is no longer refused")
    if lines and not names(given.text, touched):
        return f"accepted silently: {tiny_runs.told(lines)}"
    return ""


def names(text: str, touched: list[str]) -> bool:
    """Whether a text names one of the files, or the list of all."""
    plain = re.sub(r"\s", "", text)  # a path may be broken at the end of a line
    return any(Path(one).name in plain for one in touched) or NAMING_ALL in plain


def damaged(
    folder: Path, file: str, other: Path, files: list[str], draw: random.Random
) -> tuple[str, list[str]]:
    """Damage ``file`` in some way; what was done, and to which files."""
    path = folder / file
    content = path.read_bytes()
    how = draw.choice(list(WAYS))
    if how == "exchanged with the other run's":
        if (other / file).is_file():
            path.write_bytes((other / file).read_bytes())
            return how, [file]
        how = "a bit flipped"
    if how == "exchanged within the run":
        alike = [one for one in files if one != file and Path(one).suffix == path.suffix]
        partner = draw.choice(alike or [one for one in files if one != file])
        path.write_bytes((folder / partner).read_bytes())
        (folder / partner).write_bytes(content)
        return f"exchanged with {partner}", [file, partner]
    if how == "removed":
        path.unlink()
        return how, [file]
    changed, where = WAYS[how](content, draw)
    path.write_bytes(changed)
    return f"{how} {where}".strip(), [file]


def _flip(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    if not content:
        return b"\0", "in nothing"
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :], f"at {at}, {bit}"


def _digit(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    places = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        return _flip(content, draw)
    at = draw.choice(places)
    digit = draw.choice([d for d in b"0123456789" if d != content[at]])
    return content[:at] + bytes([digit]) + content[at + 1 :], f"at {at} to {chr(digit)}"


def _cut(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    size = draw.randrange(max(len(content), 1))
    return content[:size], f"to {size} of {len(content)} bytes"


def _empty(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    return b"", ""


def _zeros(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    first = draw.randrange(max(len(content), 1))
    size = min(draw.choice((1, 64, 4096, len(content))), len(content) - first)
    return content[:first] + bytes(size) + content[first + size :], f"{size} from {first}"


def _more(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    last = content.splitlines(keepends=True)[-1:] or [b"\n"]
    more = draw.choice((last[0], bytes(draw.choice((1, 4096))), draw.randbytes(64)))
    return content + more, f"{len(more)}"


WAYS: dict[str, Callable[[bytes, random.Random], tuple[bytes, str]]] = {
    "a bit flipped": _flip,
    "a digit changed": _digit,
    "cut": _cut,
    "emptied": _empty,
    "zeros": _zeros,
    "more bytes": _more,
    "removed": _empty,
    "exchanged with the other run's": _empty,
    "exchanged within the run": _empty,
}


if __name__ == "__main__":
    sys.exit(main())
