"""Every command that uses a run, tried on a run of every kind.

    python scripts/check_commands.py [--only NAME …] [--mnist DIR]

Trains the short runs of ``baseline_commands.py``, the classifier that two of them need among them,
and asks of each: ``evaluate`` (are the figures of both splits those that training reported, to the
last digit? Those of probes, which ask a second run, are not expected), ``predict`` (an image, a
text, a row, an array), ``sample``, ``export``. A command that refuses by a message of its own is
shown with it. Exits with 1 where figures differ, or where an error of another kind is raised.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baseline_commands import CLASSIFIER, COMMANDS, COMMON, make_files
from dltrain import training
from dltrain.cli import dispatch
from dltrain.commands.table import COMMANDS as WORDS
from dltrain.config import compose as composition
from dltrain.errors import UserError
from dltrain.runs.finding import latest
from dltrain.runs.load import reader_of_run, spec_of_run

REFUSED, SAME = "refused", "same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS))
    parser.add_argument("--mnist", default=os.environ.get("DLTRAIN_DATA", "../shared/data"))
    asked = parser.parse_args()
    mnist = str(Path(asked.mnist).resolve())
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        make_files(made)
        places = {"{made}": str(made), "{data}": mnist, "{classifier}": ""}
        for name, command in COMMANDS.items():
            if asked.only and name not in (*asked.only, CLASSIFIER):
                continue
            for mark, place in places.items():
                command = command.replace(mark, place)
            run = trained(Path(folder) / "outputs", name, f"{COMMON} {command}")
            places["{classifier}"] = places["{classifier}"] or str(run)
            found = {
                "evaluate": tried(lambda run=run: evaluated(run)),
                "predict": tried(lambda run=run: predicted(run, made)),
                "sample": tried(lambda run=run: spoken("sample", str(run), "--n", "4")),
            }
            if "export" in WORDS:
                for kind in ("onnx", "torch"):
                    found[kind] = tried(
                        lambda run=run, kind=kind: spoken("export", str(run), "--format", kind)
                    )
            print(name)
            for word, said in found.items():
                bad += said.startswith(("DIFFERS", "ERROR"))
                print(f"  {word:<9}{said}", flush=True)
    print(f"{bad} failed")
    sys.exit(1 if bad else 0)


def trained(outputs: Path, name: str, command: str) -> Path:
    """The folder of a new run."""
    overrides = [*shlex.split(command), f"name={name}", f"output_dir={outputs}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        training.train(composition.compose(overrides), overrides)
    return latest(outputs)


def tried(work: Callable[[], str]) -> str:
    """What came of it, in a line."""
    try:
        return work()
    except UserError as error:
        return f"{REFUSED}: {' '.join(str(error).split())[:150]}"
    except Exception as error:
        traceback.print_exc()
        return f"ERROR {type(error).__name__}: {error}"


def spoken(*words: str) -> str:
    """What a command prints last."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = dispatch(list(words))
    lines = out.getvalue().strip().splitlines() or [""]
    return f"{'' if code == 0 else f'ERROR exit code {code} '}{lines[-1][:150]}"


def evaluated(run: Path) -> str:
    """Whether both splits' figures are the run's own."""
    summary = json.loads((run / "summary.json").read_text())
    differ, count = [], 0
    for split in ("validation", "test"):
        if not summary[split]:
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            dispatch(["evaluate", str(run), "--split", split, "--json", "--no-files"])
        again: dict[str, Any] = json.loads(out.getvalue())["metrics"]
        differ += [
            f"{split} {name}: {summary[split].get(name)} became {value}"
            for name, value in again.items()
            if summary[split].get(name) != value
        ]
        count += len(again)
    return f"DIFFERS {'; '.join(differ)}" if differ else f"{SAME}, {count} figures"


def predicted(run: Path, made: Path) -> str:
    """The answer to an example of the kind that the run reads."""
    example = reader_of_run(run).example
    if example == "image":
        given = str(made / "images" / "ant" / "00.png")
    elif example == "text":
        given = "a fine film"
    else:
        given = str(made / ("given.npy" if example == "array" else "given.csv"))
        shape = spec_of_run(_folder(run)).input.shape
        if example == "array":
            import numpy as np

            np.save(given, np.zeros((2, *[side or 1 for side in shape]), np.float32))
        else:
            columns = reader_of_run(run).columns
            table = made / "table.csv"
            header = table.read_text(encoding="utf-8").splitlines()[0].split(",")
            if set(columns) <= set(header):
                given = str(table)
            else:
                Path(given).write_text(f"{','.join(columns)}\n{','.join('1' * len(columns))}\n")
    return spoken("predict", str(run), given)


def _folder(run: Path) -> Any:
    from dltrain.runs.folder import RunFolder

    return RunFolder(run)


if __name__ == "__main__":
    main()
