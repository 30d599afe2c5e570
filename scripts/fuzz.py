"""Type thousands of command lines, and see that each is answered as a command line should be.

    python scripts/fuzz.py --count 20000 --jobs 2        # the whole proof
    python scripts/fuzz.py --seed 7 --count 200          # the same lines each time
    python scripts/fuzz.py --only predict --count 500    # of one command
    python scripts/fuzz.py --line '["model=mlp", "seed=x"]'  # one line, with all that it says

Lines come from scripts/command_lines.py: from the real tree of configs and the real options, right,
mistyped and nonsense. A line has failed if it shows a traceback, ends with another exit code than 0
or 2, takes more than 5 s of processor time before a run begins, says a mistake in more than 10
lines, or leaves a file outside the run's output_dir. Of each kind of failure, the shortest line
that shows it is printed as one types it. Nothing reaches the network; runs are of two steps.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from command_lines import Grammar, Line, options_in
from fork_server import ForkServer, Outcome

BATCH = 250
CPU_SECONDS, MOST_LINES = 5.0, 10
RESULTS = Path(__file__).parent / "reliability.json"
RUN_BEGAN = re.compile(r"^Run ", re.MULTILINE)
WRITES = (["new"], ["export"], ["compare"], ["lr-find"])
"""Commands that write elsewhere, because that is what they are asked for by --out or a name."""
CACHES = ("home/.cache", "home/.config")
# Of a template: runs that can be used, and such that cannot; and inputs for predict.
TRAINED = {
    "good": ["data=digits", "model=mlp", "data.limit=64"],
    "text": ["data=toy_reviews", "model=rnn", "data.examples=64", "data.test_examples=32"],
    "table": ["data=iris", "model=logreg"],
}


@dataclass(frozen=True)
class Failure:
    """What was wrong with the answer to a line; ``kind`` is the same for those of one cause."""

    kind: str
    line: tuple[str, ...]
    shown: str


def main() -> None:
    # Before torch is imported. Not as this module is: tests import it, and have data of their own.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    os.environ.pop("DLTRAIN_DATA", None)
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as room:
        template = Path(room) / "template"
        _import_all()
        _make_template(template)
        if options.line:
            _show_one(Path(room), template, json.loads(options.line))
            return
        with tempfile.TemporaryDirectory(dir=room) as own:
            grammar = Grammar(_options_of_commands(ForkServer(Path(own), template)))
        batches = [min(BATCH, options.count - at) for at in range(0, options.count, BATCH)]
        work = [
            (Path(room), template, grammar, options, at, n)
            for at, n in enumerate(batches)
            if at >= options.first
        ]
        if options.jobs == 1:
            results = [_batch(*one) for one in work]
        else:
            # Forked: what is imported is imported once.
            import multiprocessing

            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(options.jobs, context) as pool:
                results = list(pool.map(_batch_of, work))
    lines = sum(count for count, _ in results)
    by_kind: dict[str, list[Failure]] = {}
    for failure in (failure for _, failures in results for failure in failures):
        by_kind.setdefault(failure.kind, []).append(failure)
    for kind, failures in sorted(by_kind.items(), key=lambda pair: -len(pair[1])):
        shortest = min(failures, key=lambda failure: len("".join(failure.line)))
        print(
            f"\n{len(failures)} of: {kind}\n  {typed(shortest.line)}\n{_indented(shortest.shown)}"
        )
    minutes = (time.monotonic() - began) / 60
    failed = sum(map(len, by_kind.values()))
    print(f"\n{lines} command lines in {minutes:.1f} min: {failed} failed, of {len(by_kind)} kinds")
    if options.record:
        _record(
            {
                "lines": lines,
                "failed": failed,
                "kinds": sorted(by_kind),
                "minutes": round(minutes, 1),
                "seed": options.seed,
                "first batch": options.first,
            }
        )
    sys.exit(bool(by_kind))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="go on with this batch of 250")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", help="training, query, or a command")
    parser.add_argument("--line", help="a JSON list: what follows dltrain")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    return parser.parse_args()


def typed(line: Sequence[str]) -> str:
    """The line as a shell takes it, also where it is no text, or moves the cursor."""
    words = []
    for word in line:
        if word.isprintable():
            words.append(shlex.quote(word))
        else:
            plain = {*range(32, 127)} - {*b"'\\"}
            shown = (chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(word))
            words.append(f"$'{''.join(shown)}'")
    return " ".join(["dltrain", *words])


def faults_of(line: Sequence[str], outcome: Outcome) -> Iterator[str]:
    """What is wrong with the answer, in words that are the same for those of one cause."""
    said = outcome.err
    if "Traceback (most recent call last)" in said + outcome.out:
        yield f"traceback: {_last_frame(said if 'Traceback' in said else outcome.out)}"
    elif outcome.code not in (0, 2):
        yield f"exit code {outcome.code}"
    began = RUN_BEGAN.search(outcome.out)
    if not began and outcome.cpu > CPU_SECONDS and outcome.code in (0, 2):
        yield f"{CPU_SECONDS:.0f} s of processor time, exit code {outcome.code}"
    if outcome.code == 2 and said.count("\n") > MOST_LINES and not began:
        yield f"a message of more than {MOST_LINES} lines"
    if outcome.code == 2 and not said.strip():
        yield "exit code 2 without a message"
    if any(len(text) > 2000 for text in said.splitlines()):
        yield "a message of more than 2,000 characters"
    if "\x1b" in said or "\x07" in said:
        yield "control characters in a message"
    outside = [path for path in outcome.created if not _may_be(path, line)]
    if outside:
        yield f"a file outside the run: {re.sub('[0-9]+', 'N', outside[0])}"


def _may_be(path: str, line: Sequence[str]) -> bool:
    """Whether a new file is where a run's are, or where it was asked for."""
    inside = path.removeprefix("work/")
    if inside.startswith("outputs/") or path.startswith(CACHES) or line[:1] in WRITES:
        return True
    named = [word.partition("=")[2] or word for word in line]
    named = [word.strip("'\"").rstrip("/").removeprefix("./") for word in named if word]
    for word in [*named]:
        with contextlib.suppress(ValueError):
            named.append(str(float(word)))  # 1e400 is read as a number, and names the folder inf
    named.append("True")  # as does true
    return any(f"{inside}/".startswith(f"{n}/") or n.startswith(f"{inside}/") for n in named if n)


def _last_frame(said: str) -> str:
    ours = re.findall(r'File "[^"]*?(?:src/)?(dltrain/[^"]+)", line \d+, in (\w+)', said)
    last = said.strip().splitlines()[-1][:90]
    last = re.sub(r"0x[0-9a-f]+|\d+|'.*'|\".*\"", "_", last)
    return f"{last} in {ours[-1][1]} ({ours[-1][0]})" if ours else last


def _batch_of(
    work: tuple[Any, ...],
) -> tuple[int, list[Failure]]:
    return _batch(*work)


def _batch(
    room: Path,
    template: Path,
    grammar: Grammar,
    options: argparse.Namespace,
    number: int,
    size: int,
) -> tuple[int, list[Failure]]:
    """Type ``size`` lines, of the batch's own seed; return how many, and what failed."""
    with tempfile.TemporaryDirectory(dir=room) as own:
        server = ForkServer(Path(own), template)
        found: list[Failure] = []
        typed_lines = 0

        @seed(options.seed * 1_000_000 + number)
        @settings(
            max_examples=size, phases=[Phase.generate], database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(_strategy(grammar, options.only))
        def type_it(line: Line) -> None:
            nonlocal typed_lines
            typed_lines += 1
            if typed_lines % 50 == 0:
                print(f"# {typed_lines} of batch {number}", file=sys.stderr, flush=True)
            outcome = server.run(line)
            for kind in faults_of(line, outcome):
                known = any(failure.kind == kind for failure in found)
                shortest = line if known else _shrunk(line, kind, server)
                found.append(Failure(kind, tuple(shortest), outcome.err[-1500:]))
                print(f"failed: {kind}: {typed(shortest)}", flush=True)

        type_it()
    return typed_lines, found


def _strategy(grammar: Grammar, only: str | None):  # type: ignore[no-untyped-def]
    own: dict[str, Callable[[], object]] = {"training": grammar.training, "query": grammar.query}
    if only is None:
        return grammar.line()
    return own[only]() if only in own else grammar.command(only)


def _shrunk(line: Sequence[str], kind: str, server: ForkServer, most: int = 40) -> Line:
    """The shortest line found, in ``most`` tries, that fails in the same way."""
    best, tries = list(line), 0
    shorter = True
    while shorter:
        shorter = False
        for candidate in _shorter(best):
            tries += 1
            if tries > most:
                return best
            if kind in faults_of(candidate, server.run(candidate)):
                best, shorter = candidate, True
                break
    return best


def _shorter(line: Line) -> Iterator[Line]:
    for at in range(len(line)):
        yield [*line[:at], *line[at + 1 :]]
    for at, word in enumerate(line):
        if len(word) > 8:
            for part in (word[: len(word) // 2], word[: -len(word) // 4]):
                yield [*line[:at], part, *line[at + 1 :]]


def _import_all() -> None:
    """What any line may import, once, in the process that children are copies of."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets
    import torch
    import torch.utils.tensorboard

    from dltrain import cli, training  # noqa: F401
    from dltrain.commands.table import COMMANDS

    torch.set_num_threads(1)
    sklearn.datasets.load_digits()
    for command in COMMANDS.values():
        __import__(command.place.partition(":")[0])


def _make_template(template: Path) -> None:
    """The folder that each line is typed in: three runs, damaged ones, and inputs."""
    inputs = template / "inputs"
    inputs.mkdir(parents=True)
    (inputs / "table.csv").write_text("sepal length (cm),x\n1,2\n3,oops\n")
    (inputs / "lines.txt").write_text("a good film\n\n\x1b[31mbad\x00one\n")
    (inputs / "not-a-png.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (inputs / "empty").touch()
    (inputs / os.fsdecode(b"na\xefve.csv")).write_bytes(b"a,b\n1,\xff\n")
    (inputs / "loop").symlink_to("loop")
    (inputs / "dangling").symlink_to("nowhere")
    from PIL import Image

    Image.new("L", (8, 8), 7).save(inputs / "digit.png")
    rest = ["trainer.steps=2", "callbacks=none", "device=cpu"]
    with tempfile.TemporaryDirectory() as room:
        empty = Path(room) / "empty"
        empty.mkdir()
        for name, line in TRAINED.items():
            outcome = ForkServer(Path(room), empty).run([*line, *rest, f"name={name}"])
            assert outcome.code == 0, outcome.err
            made = Path(room) / "line" / "work" / "outputs" / name
            shutil.copytree(made, template / "outputs" / name)
    for name, broken in (("damaged", "summary.json"), ("no-config", ""), ("no-summary", "")):
        copied = template / "outputs" / name / "2026-01-01_00-00-00"
        shutil.copytree(next((template / "outputs" / "good").iterdir()), copied)
        if broken:
            (copied / broken).write_text('{"status": [')
        else:
            (
                copied / f"{name.removeprefix('no-')}.{'yaml' if 'config' in name else 'json'}"
            ).unlink()
    gc.collect()
    gc.freeze()


def _options_of_commands(server: ForkServer) -> dict[str, list[str]]:
    from dltrain.commands.table import COMMANDS

    return {name: options_in(server.run([name, "--help"]).out) for name in COMMANDS}


def _show_one(room: Path, template: Path, line: Line) -> None:
    outcome = ForkServer(room, template).run(line)
    print(outcome.out, end="")
    print(outcome.err, end="", file=sys.stderr)
    print(f"exit code {outcome.code}, {outcome.cpu:.1f} s of processor time")
    for path in outcome.created:
        print(f"  {path}")
    for kind in faults_of(line, outcome):
        print(f"failed: {kind}")


def _indented(text: str, most: int = 6) -> str:
    return "\n".join(f"      {line[:160]!r}" for line in text.strip().splitlines()[-most:])


def _record(result: dict[str, object]) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known["command_lines"] = {"date": date.today().isoformat(), **result}
    RESULTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
