"""Feed dltrain run folders, checkpoints, archives, data and names that somebody means harm with.

    python scripts/hostile.py                    all cases
    python scripts/hostile.py --only link        those whose name has "link"
    python scripts/hostile.py --record           all; scripts/reliability.json has the result

Each case is a command in a process of its own, in a folder of its own that also has a home with a
diary. It is right if nothing of the case is executed, nothing is written outside of the run and its
output_dir, it takes at most 1 GB and 10 s of processor time, prints no traceback, no escape
sequence and no advice to trust the file, and does not hang. scripts/hostile_cases.py has the cases.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import hostile_cases
from hostile_cases import CASES, Case, Place
from reliability import write_result

MEMORY, SECONDS, HANGS = 1 << 30, 10.0, 300
"""Bytes and seconds of processor time that a case may take; seconds after which it hangs."""
EXECUTES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
OURS = ("rev-parse", "'uname'")
"""What a run asks the system for: its commit, its processor."""
ADVICE = ("weights_only=False", "weights_only` ", "DLTRAIN_PACKAGES=os", "allow_pickle")


class Result(NamedTuple):
    """What came of a case."""

    faults: list[str]
    megabytes: int
    seconds: float


def main() -> int:
    """Try the cases; return 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--keep", action="store_true", help="leave the files of the cases")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args()
    chosen = [case for case in CASES if asked.only in case.name]
    base = Path(tempfile.mkdtemp(prefix="hostile-"))
    results: dict[str, Result] = {}
    try:
        run = trained(base)
        for number, case in enumerate(chosen):
            found = results[case.name] = tried(case, base / str(number), run)
            if not asked.keep:
                shutil.rmtree(base / str(number), ignore_errors=True)
            if found.faults:
                again = f"python scripts/hostile.py --keep --only {shlex.quote(case.name)}"
                print(f"{case.name}: {'; '.join(found.faults)}   {again}", flush=True)
    finally:
        if asked.keep:
            print(f"The files are in {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    bad = [result for result in results.values() if result.faults]
    largest = max(results, key=lambda name: results[name].megabytes)
    most, slowest = results[largest].megabytes, max(r.seconds for r in results.values())
    said = "".join(fault for result in bad for fault in result.faults)
    print(
        f"{len(results)} cases: {len(bad)} failures, {said.count('executed')} executions, "
        f"{said.count('wrote')} writes outside; at most {most} MB ({largest}) and {slowest:.1f} s"
    )
    if asked.record and not asked.only:
        found = {"cases": len(results), "failures": len(bad), "megabytes": most}
        write_result("hostile", {**found, "seconds": round(slowest, 1)})
    return bool(bad)


def trained(base: Path) -> Path:
    """A finished run of a second, which cases change a copy of."""
    outputs = base / "trained"
    words = ["model=logreg", "data=digits", "trainer.epochs=1", "callbacks=none", "name=run"]
    code, output = command([*words, f"output_dir={outputs}"], base)
    assert code == 0, output
    return next((outputs / "run").iterdir())


def command(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """The exit code and the output of ``dltrain words``, in a process forked from this one."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if not child:
            _be_dltrain(words, folder, file.fileno())
        _, status = os.waitpid(child, 0)
        file.seek(0)
        return os.waitstatus_to_exitcode(status), file.read().decode("utf-8", "replace")


def tried(case: Case, folder: Path, run: Path) -> Result:
    """Make a case's files, run its command, and see what that did."""
    place = Place(folder, run)
    built = os.fork()  # what makes a bomb takes memory itself
    if not built:
        code = 1
        try:
            words = case.build(place)
            (folder / "words").write_text("\0".join(words))
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(built, 0)[1]:
        return Result(["its files could not be made"], 0, 0.0)
    words = [word for word in (folder / "words").read_text().split("\0") if word]
    before, started = contents(folder, case), time.monotonic()
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if not child:
            _be_dltrain(words, place.work, file.fileno())
        _, status, used = os.wait4(child, 0)
        file.seek(0)
        output = file.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    memory = int((folder / "work" / ".memory").read_text() or 0) if code >= 0 else used.ru_maxrss
    (folder / "work" / ".memory").unlink(missing_ok=True)
    seconds = used.ru_utime + used.ru_stime
    faults = [f"executed {line}" for line in output.splitlines() if line.startswith("EXECUTED")]
    if (folder / "PWNED").exists():
        faults.append("executed what it planted")
    after = contents(folder, case)
    faults += [
        f"wrote {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)
    ]
    if code not in case.codes:
        faults.append(f"exit code {code}: {output.strip().splitlines()[-1:]}")
    if "Traceback" in output:
        faults.append("a traceback")
    if os.strerror(errno.ENOENT) in output:
        faults.append("looks elsewhere than where the case's files lie")
    if case.quiet and any(not c.isprintable() and c not in "\n\r\t" for c in output):
        faults.append("a control character on the terminal")
    faults += [f"advises {advice}" for advice in ADVICE if advice in output]
    if memory << 10 > MEMORY:
        faults.append(f"took {memory >> 10} MB")
    if seconds > SECONDS:
        faults.append(f"took {seconds:.1f} s")
    if time.monotonic() - started > HANGS:
        faults.append("hangs")
    return Result(faults, memory >> 10, seconds)


def _be_dltrain(words: Sequence[str], folder: Path, output: int) -> None:
    """Run the command in this process, which ends with it; tell what it executes."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        os.chdir(folder)
        os.environ["HOME"] = str(folder.parent / "home")
        os.environ["PYTHONSAFEPATH"] = "1"
        signal.alarm(HANGS)
        # So that the peak is this command's, and not of what it was forked from.
        Path("/proc/self/clear_refs").write_text("5")

        def told(event: str, arguments: tuple[object, ...]) -> None:
            ours = any(word in str(arguments) for word in OURS)
            if event.startswith(EXECUTES) and not ours:
                os.write(1, f"EXECUTED {event} {str(arguments)[:200]}\n".encode())

        sys.addaudithook(told)
        sys.argv = ["dltrain", *words]
        from dltrain import cli

        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        peak = [x for x in Path("/proc/self/status").read_text().splitlines() if x[:5] == "VmHWM"]
        (folder / ".memory").write_text(peak[0].split()[1])
        os._exit(code)


def contents(folder: Path, case: Case) -> dict[str, str]:
    """What lies outside of the run, its output_dir and a data set's cache, by its path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(case.may_write) or name in ("words", "work/.memory"):
            continue
        if path.is_symlink() or not path.is_file():
            found[name] = "link" if path.is_symlink() else "folder" if path.is_dir() else "other"
        elif path.stat().st_size < 1 << 24:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    hostile_cases.warm()
    sys.exit(main())
