"""Break promises on purpose, each in a copy of the code, and see that a test notices.

    python scripts/break_promises.py                      # all; three minutes on a quiet machine
    python scripts/break_promises.py --only random fsync

A promise is broken by replacing a few words of the code. Where they do not stand there any more the
promise counts as not caught, and its change is to be written anew. The tests named for a promise
are first run as they are: there they must pass. Exits with 1 unless each broken one is caught.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from reliability import write_result

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "configs", "tests", "scripts", "docs")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")


class Broken(NamedTuple):
    """A promise, and how it is broken: ``old`` becomes ``new`` in ``file``."""

    promise: str
    change: str
    tests: str
    """What pytest is called with."""
    edits: tuple[tuple[str, str, str], ...]


PROMISES = {
    "random": Broken(
        "a resumed run draws what it would have drawn",
        "the random generators' state is not restored",
        "tests/test_resume.py -k a_signal_and_a_resume",
        (
            (
                "core/loop.py",
                'generators.restore(saved["random"], self.settings.device)',
                'saved["random"]',
            ),
        ),
    ),
    "fsync": Broken(
        "a file is on the disk before its name is",
        "no fsync of a file that is written",
        "tests/test_durable.py",
        (("runs/durable.py", "                os.fsync(file.fileno())", "                pass"),),
    ),
    "pickle": Broken(
        "a file of tensors executes nothing",
        "torch.load(weights_only=False)",
        "tests/test_tensor_files.py -k would_execute",
        (("tensor_files.py", "weights_only=True", "weights_only=False"),),
    ),
    "damage": Broken(
        "damaged weights are not loaded",
        "the checksums of a checkpoint's parts are not looked at",
        "tests/test_durability.py -k of_a_damaged_checkpoint",
        (("tensor_files.py", "            _require_whole(file)\n", ""),),
    ),
    "links": Broken(
        "nothing of a run folder is opened through a link",
        "no O_NOFOLLOW",
        "tests/test_files.py -k is_a_link",
        (("files.py", 'getattr(os, "O_NOFOLLOW", 0)', "0"),),
    ),
    "contracts": Broken(
        "a run folder names nothing but parts of a run",
        "every class of an allowed package will do",
        "tests/test_build.py tests/test_hostile.py",
        (
            ("config/build.py", "if not (any_kind or _is_contract(kind)):", "if False:"),
            ("config/build.py", "    if not _is_contract(target):", "    if False:"),
        ),
    ),
    "packages": Broken(
        "a run folder names no class of a stranger's",
        "its packages are not looked at",
        "tests/test_hostile.py -k no_door",
        (
            (
                "config/build.py",
                "        _require_allowed(module_name, path, where, packages)\n",
                "",
            ),
        ),
    ),
    "key": Broken(
        "a key that does not exist is refused",
        "a key that is not known is taken",
        "tests/test_errors.py -k typed",
        (
            (
                "config/compose/explaining.py",
                'yield Fault(key, "there is no such key.", _listed_beside(key, keys))',
                "pass",
            ),
        ),
    ),
    "metrics": Broken(
        "metrics.csv has each step once",
        "what was written after the checkpoint is not cut off on resume",
        "tests/test_resume.py -k kill_9",
        (("callbacks/appended.py", "        self.file.truncate(length)\n", ""),),
    ),
    "shuffle": Broken(
        "the order of examples depends on seed and epoch alone",
        "the global generator shuffles",
        "tests/test_data.py -k drawing_an_epoch",
        (
            (
                "data/streams/in_memory.py",
                "return torch.Generator().manual_seed(epoch_seed(self._seed, epoch))",
                "return torch.default_generator",
            ),
        ),
    ),
    "finished": Broken(
        "finished is the last that is written of a run",
        "it is written before the figures are",
        "tests/test_durability.py -k after_the_last_step",
        (
            (
                "training.py",
                "            status = self._end(self._fit(state))\n",
                "            status = self._fit(state)\n"
                "            self._summarize(status)\n"
                "            status = self._end(status)\n",
            ),
        ),
    ),
    "weights": Broken(
        "classes weigh as in the training split",
        "their counts are those of the test split",
        "tests/test_data.py -k a_spec_counts",
        (
            (
                "data/streams/source.py",
                'counts = splits["train"].columns["target"]',
                'counts = splits["test"].columns["target"]',
            ),
        ),
    ),
    "scaling": Broken(
        "features are scaled by the training split alone",
        "the test split's are in their mean",
        "tests/test_data_tables.py",
        (
            (
                "data/tables/source.py",
                'inputs = splits["train"].columns["input"]',
                'inputs = __import__("torch").cat([s.columns["input"] for s in splits.values()])',
            ),
        ),
    ),
    "memory": Broken(
        "a run that has ended leaves nothing in memory",
        "run and trainer keep each other",
        "tests/test_memory.py -k has_ended",
        (("training.py", "            del self.trainer\n", "            pass\n"),),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(PROMISES), default=list(PROMISES))
    asked = parser.parse_args()
    caught = {}
    with tempfile.TemporaryDirectory() as place:
        for name in asked.only:
            broken = PROMISES[name]
            caught[name] = tried(broken, Path(place) / "copy")
            print(f"| {broken.promise} | {broken.change} | {caught[name]} |", flush=True)
    missed = [name for name, test in caught.items() if not test.startswith("tests/")]
    print(f"{len(caught)} promises broken, {len(caught) - len(missed)} caught")
    if missed:
        print(f"again: python scripts/break_promises.py --only {' '.join(missed)}")
    elif asked.only == list(PROMISES):
        tests = {PROMISES[name].promise: test for name, test in caught.items()}
        write_result("break_promises", {"broken": len(caught), "caught_by": tests})
    sys.exit(1 if missed else 0)


def tried(broken: Broken, copy: Path) -> str:
    """The test that notices, or why there is none."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    # The installed package is found behind this one; its configs are a folder of their own.
    (copy / "src" / "dltrain" / "configs").symlink_to(copy / "configs")
    whole = failed(broken.tests, copy)
    if whole != []:
        return f"not whole before: {whole or 'no test ran'}"
    for file, old, new in broken.edits:
        path = copy / "src" / "dltrain" / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            return f"{file} has moved on: {old.strip()!r} stands there {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return next(iter(failed(broken.tests, copy) or []), "NOT CAUGHT")


def failed(tests: str, copy: Path) -> list[str] | None:
    """The tests that fail in ``copy``, the first alone; None where none ran."""
    command = [sys.executable, "-m", "pytest", *tests.split(), "-x", "-q", "-n", "0", "-rf"]
    command += ["-p", "no:cacheprovider", "--tb=no"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        return None
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)


if __name__ == "__main__":
    main()
