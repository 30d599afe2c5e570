"""Tell whether a change left everything that dltrain computes as it was, bit for bit.

    python scripts/baseline.py record before.json                        # with this checkout
    python scripts/baseline.py record after.json --python OTHER/.venv/bin/python
    python scripts/baseline.py compare before.json after.json --expected expected.yaml

``record`` runs the short commands of scripts/baseline_commands.py, which together touch every task,
kind of data, regularizer, optimizer, schedule and callback, and writes down what they left: rows of
metrics.csv, each tensor of the task in both checkpoints, the pixels of each figure, tables, the
summary without timings, what TensorBoard was given, and all other files. ``compare`` names each
difference and exits with 1 if there is one that the file of expected differences does not cover:

    renames:      # of what the first recording has; * stands for the same in both
      - {kind: tensor, old: "*/model.coder.*", new: "*/model.encoder.*"}
    differences:
      - {command: "gan*", kind: figure, name: "samples.*", reason: the sheet got a margin}

``command``, ``kind`` (overrides, status, metric, order, tensor, figure, table, summary, event or
file) and ``name`` are patterns as of a shell; what is left out is any. Numbers depend on the
processor and on the versions of packages, so both recordings must be of the same.

MNIST and Fashion-MNIST are read from DLTRAIN_DATA, else from ../shared/data; where there are none,
their commands are left out. All other data is bundled, or made here.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import chain, zip_longest
from math import inf, isnan
from operator import ne
from pathlib import Path
from typing import Any

from baseline_commands import CLASSIFIER, COMMANDS, COMMON, make_files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = "torch torchvision numpy scipy scikit-learn matplotlib pillow tokenizers tensorboard"
ENVIRONMENT = f"""
import hashlib, importlib.metadata, json, pathlib, platform, torch, dltrain
told = pathlib.Path("/proc/cpuinfo")
lines = told.read_text().partition("\\n\\n")[0].splitlines() if told.exists() else []
cpu = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
print(json.dumps({{
    "cpu": [cpu.get(n, platform.processor()) for n in ("model name", "cpu family", "model")],
    "instructions": [torch.backends.cpu.get_cpu_capability(),
                     hashlib.sha256(cpu.get("flags", "").encode()).hexdigest()[:16]],
    "python": platform.python_version(),
    **{{name: importlib.metadata.version(name) for name in {PACKAGES.split()}}},
    "dltrain": str(pathlib.Path(dltrain.__file__).parent),
}}))
"""
"""A program for the interpreter whose dltrain is recorded."""
ELSEWHERE = [
    "metrics.csv",
    "summary.json",
    "overrides.txt",
    "environment.json",
    "train.log",
    ".lock",
]
"""Files that tell the time, or are recorded in parts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record", help="run the commands, write down what they leave")
    recording.add_argument("out", type=Path)
    recording.add_argument("--only", nargs="+", metavar="NAME", default=["*"], help="patterns")
    recording.add_argument("--jobs", type=int, default=1, help="commands at a time")
    recording.add_argument("--python", default=sys.executable, help="whose dltrain to run")
    comparing = verbs.add_parser("compare", help="name the differences of two recordings")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--expected", type=Path, help="a YAML file of expected differences")
    arguments = parser.parse_args()
    if arguments.verb == "record":
        record(arguments.out, arguments.only, arguments.jobs, arguments.python)
    else:
        compare(arguments.before, arguments.after, arguments.expected)


def record(out: Path, only: Sequence[str], jobs: int, python: str) -> None:
    """Run the commands that a pattern names, and what those need; write the file ``out``."""
    started = time.perf_counter()
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    data = os.environ.get("DLTRAIN_DATA", str(ROOT.parent / "shared" / "data"))
    chosen = [name for name in COMMANDS if any(fnmatchcase(name, pattern) for pattern in only)]
    if not list(Path(data).rglob("train-images-idx3-ubyte*")):
        chosen = [name for name in chosen if "{data}" not in COMMANDS[name]]
        print(f"no MNIST in {data}: its commands are left out")
    measured = any("{classifier}" in COMMANDS[name] for name in chosen)
    with tempfile.TemporaryDirectory(prefix="baseline-") as folder:
        place, made = Path(folder), Path(folder) / "made"
        environ["HF_DATASETS_CACHE"] = str(place / "hub")
        told = subprocess.run(
            [python, "-c", ENVIRONMENT], cwd=place, env=environ, check=True, capture_output=True
        )
        environment = json.loads(told.stdout)
        print(f"recording {environment.pop('dltrain')}", flush=True)
        make_files(made)
        known = {"{made}": str(made), "{data}": data}
        hidden = {str(place): "$PLACE", data: "$DATA"}

        def found(name: str) -> dict[str, Any]:
            command = f"{COMMON} {COMMANDS[name]} name={name} output_dir={place}/outputs"
            for placeholder, value in known.items():
                command = command.replace(placeholder, value)
            begun = time.perf_counter()
            words = [python, "-m", "dltrain", *shlex.split(command)]
            run = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True)
            runs = [*(place / "outputs" / name).glob("*")]
            result: dict[str, Any] = {"overrides": {"": f"{COMMON} {COMMANDS[name]}"}}
            result["status"] = {"": f"exit {run.returncode}"}
            if run.returncode or len(runs) != 1:
                print(f"{name} FAILED:\n{run.stdout[-1000:]}{run.stderr[-3000:]}")
            else:
                if name == CLASSIFIER:
                    known["{classifier}"] = str(runs[0])
                    hidden[bare_weights(runs[0] / "checkpoints" / "last.pt")] = "$CLASSIFIER"
                result |= left_by(runs[0], hidden)
            print(f"{name}: {time.perf_counter() - begun:.1f} s", flush=True)
            return result

        results = {}
        if measured or CLASSIFIER in chosen:  # others are measured by it, so it comes first
            results[CLASSIFIER] = found(CLASSIFIER)
        with ThreadPoolExecutor(jobs) as pool:
            rest = [name for name in chosen if name != CLASSIFIER]
            results |= zip(rest, pool.map(found, rest), strict=True)
    out.write_text(json.dumps({"environment": environment, "commands": results}) + "\n")
    failed = [name for name, result in results.items() if result["status"][""] != "exit 0"]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, busy = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    print(f"{len(results)} commands in {seconds:.0f} s, {busy:.0f} s of a core: {out}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def bare_weights(path: Path) -> str:
    """Drop timings and the like from a classifier's checkpoint, whose hash names figures."""
    import torch

    state = torch.load(path, weights_only=True)
    torch.save({name: state[name] for name in ("format", "task")}, path)
    return digest(path.read_bytes())[:8]


def left_by(run: Path, hidden: Mapping[str, str]) -> dict[str, Any]:
    """What is in a run's folder by kind and name; ``hidden`` texts differ from day to day."""
    import numpy as np
    import torch
    from PIL import Image, ImageSequence

    def plain(text: str) -> str:
        for changing, constant in hidden.items():
            text = text.replace(changing, constant)
        return re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "$TIME", text)

    def pixels(file: Any) -> str:
        with Image.open(file) as image:
            frames = [np.asarray(f.convert("RGBA")) for f in ImageSequence.Iterator(image)]
        return f"{np.stack(frames).shape} {digest(np.stack(frames).tobytes())}"

    result: dict[str, Any] = {kind: {} for kind in ("tensor", "figure", "table", "event", "file")}
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        result["metric"] = [
            [row["step"], row["epoch"], plain(f"{row['split']}/{row['name']}"), row["value"]]
            for row in csv.DictReader(file)
        ]
    summary = json.loads((run / "summary.json").read_text())
    del summary["seconds"], summary["samples_per_second"]
    scores = {
        f"{split}/{name}": value
        for split in ("test", "validation")
        for name, value in summary.pop(split).items()
    }
    result["summary"] = {plain(name): repr(value) for name, value in (summary | scores).items()}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".pt":
            content = torch.load(path, weights_only=True)
            for key, tensor in content.get("task", content).items():
                if isinstance(tensor, torch.Tensor):
                    kept = digest(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
                    shown = f"{tensor.dtype} {tuple(tensor.shape)} {kept}"
                else:
                    shown = f"{type(tensor).__name__} {digest(repr(tensor).encode())}"
                result["tensor"][f"{path.stem}/{key}"] = shown
        elif name.startswith("figures/"):
            result["figure"][path.name] = pixels(path)
        elif name.startswith("tables/"):
            result["table"][plain(path.name)] = path.read_text(encoding="utf-8")
        elif ".tfevents." in name:
            within = "" if path.parent == run else f"{path.parent.name}: "
            for tag, shown in events(path, pixels, plain).items():
                result["event"][within + plain(tag)] = shown
        elif name not in ELSEWHERE:
            result["file"][name] = digest(plain(path.read_text(encoding="utf-8")).encode())
    return result


def events(path: Path, pixels: Any, plain: Any) -> dict[str, str]:
    """A digest of all that TensorBoard was given under each tag, but what the clock says."""
    from google.protobuf.text_format import MessageToString
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    seen: dict[str, list[str]] = {}
    for event in map(Event.FromString, RawEventFileLoader(str(path)).Load()):
        if event.graph_def:
            seen["(graph)"] = [MessageToString(GraphDef.FromString(event.graph_def))]
        for value in event.summary.value:
            if value.tag.endswith("_per_second"):
                continue
            if value.HasField("image"):
                shown = pixels(io.BytesIO(value.image.encoded_image_string))
            elif value.metadata.plugin_data.plugin_name == "hparams":
                content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                content.session_start_info.start_time_secs = 0
                content.session_end_info.end_time_secs = 0
                shown = MessageToString(content)
            else:
                shown = MessageToString(value)
            if value.tag.startswith("validation/"):  # drawn by the clock, but always at the end
                seen.pop(value.tag, None)
            seen.setdefault(value.tag, []).append(f"{event.step} {plain(shown)}")
    return {tag: f"{len(texts)} {digest(repr(texts).encode())}" for tag, texts in seen.items()}


def digest(content: bytes) -> str:
    """Enough of its SHA-256 to tell two apart."""
    return hashlib.sha256(content).hexdigest()[:16]


def compare(before: Path, after: Path, expected: Path | None) -> None:
    """Print what differs by command; exit with 1 if any of it was not expected."""
    import yaml

    one, other = (json.loads(path.read_text()) for path in (before, after))
    if one["environment"] != other["environment"]:
        sys.exit(f"not comparable: {one['environment']}\nand {other['environment']}")
    rules = (yaml.safe_load(expected.read_text()) if expected else None) or {}
    renames, allowed = rules.get("renames") or [], rules.get("differences") or []
    outcomes: dict[str, int] = {}
    used: set[int] = set()
    one["commands"] = {
        new_name(renames, name, "command", name): result for name, result in one["commands"].items()
    }
    for command in {**one["commands"], **other["commands"]}:
        pair = [recording["commands"].get(command) for recording in (one, other)]
        lines, outcome = [], "identical"
        if None in pair:
            found = [("status", "", f"only in {(after, before)[pair[1] is None]}", False)]
        else:
            found = [*differences(renamed(command, pair[0], renames), pair[1])]
        for kind, name, what, close in found:
            subject = (("command", command), ("kind", kind), ("name", name))
            rule = next(
                (i for i, rule in enumerate(allowed)
                 if all(fnmatchcase(text, rule.get(key, "*")) for key, text in subject)), None,
            )  # fmt: skip
            what += " (equal to 1e-12)" if close else ""
            why = "" if rule is None else f" (expected: {allowed[rule]['reason']})"
            used |= set() if rule is None else {rule}
            ranks = ("identical", "equal to 1e-12", "as expected", "DIFFERENT")
            here = ranks[1] if close else ranks[3] if rule is None else ranks[2]
            outcome = max(outcome, here, key=ranks.index)
            lines.append(f"  {kind} {name}: {what}{why}")
        print("\n".join([f"{command}: {outcome}", *lines]))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    for index in set(range(len(allowed))) - used:
        print(f"nothing differs as expected here: {allowed[index]}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    print(f"{sum(outcomes.values())} commands: {counts}")
    sys.exit("DIFFERENT" in outcomes)


def new_name(rules: Sequence[Any], command: str, kind: str, name: str) -> str:
    """What the second recording calls ``name``."""
    for rule in rules:
        pattern = re.escape(rule["old"]).replace(r"\*", "(.*)")
        match = re.fullmatch(pattern, name)
        applies = fnmatchcase(kind, rule.get("kind", "*"))
        if match and applies and fnmatchcase(command, rule.get("command", "*")):
            pieces = zip_longest(rule["new"].split("*"), match.groups(), fillvalue="")
            return "".join(chain.from_iterable(pieces))
    return name


def renamed(command: str, result: dict[str, Any], rules: Sequence[Any]) -> dict[str, Any]:
    """The first recording's result with the second's names."""
    changed: dict[str, Any] = {}
    for kind, content in result.items():
        old = {row[2] for row in content} if kind == "metric" else content
        names = {name: new_name(rules, command, kind, name) for name in old}
        if len(set(names.values())) < len(names):
            sys.exit(f"renames: {command} would have two of a name among its {kind}s")
        if kind == "metric":
            changed[kind] = [[*row[:2], names[row[2]], row[3]] for row in content]
        else:
            changed[kind] = {names[name]: value for name, value in content.items()}
    return changed


def differences(one: Any, other: Any) -> Iterator[tuple[str, str, str, bool]]:
    """Kind, name, what differs, and whether that is an evaluation's last bits alone."""
    orders = []
    for kind in dict.fromkeys([*one, *other]):
        pair = [result.get(kind, {}) for result in (one, other)]
        if kind == "metric":
            orders = [[(*row[:3],) for row in rows] for rows in pair]
            pair = [by_name(rows) for rows in pair]
        for name in dict.fromkeys([*pair[0], *pair[1]]):
            a, b = (content.get(name) for content in pair)
            if a == b:
                continue
            evaluated = kind in ("metric", "summary") and name.startswith(("validation/", "test/"))
            if a is None or b is None:
                yield kind, name, f"only {'after' if a is None else 'before'}", False
            elif kind in ("metric", "table") or evaluated:
                what, close = differing_numbers(*map(cells, (a, b)))
                yield kind, name, what, evaluated and close
            else:
                yield kind, name, f"{a} became {b}", False
    if orders:
        common = set(orders[0]) & set(orders[1])
        first, second = ([row for row in rows if row in common] for rows in orders)
        if first != second:
            yield "order", "", "metrics.csv has its rows in another order", False


def by_name(rows: Any) -> dict[str, list[list[str]]]:
    """The rows of each metric: its name is ``split/name``, a row step, epoch and value."""
    found: dict[str, list[list[str]]] = {}
    for step, epoch, name, value in rows:
        found.setdefault(name, []).append([step, epoch, value])
    return found


def cells(content: Any) -> list[list[str]]:
    """The rows of a table's text, of a metric or of a single value."""
    if isinstance(content, list):
        return content
    return list(csv.reader(io.StringIO(content)))


def differing_numbers(a: list[list[str]], b: list[list[str]]) -> tuple[str, bool]:
    """How two lists of rows differ, and whether by no more than 1e-12 (of what is above 1)."""
    if list(map(len, a)) != list(map(len, b)):
        return f"{len(a)} rows became {len(b)}, or got other columns", False
    largest, close, rows = 0.0, True, sum(map(ne, a, b))
    for x, y in zip(chain.from_iterable(a), chain.from_iterable(b), strict=True):
        if x != y:
            try:
                difference = abs(float(x) - float(y))
            except ValueError:
                difference = inf
            largest = max(largest, inf if isnan(difference) else difference)
            close = close and difference < inf and difference <= 1e-12 * max(1.0, abs(float(x)))
    return f"{rows} of {len(a)} rows differ, by {largest:.3g} at most", close


if __name__ == "__main__":
    main()
