"""What a signal does at each moment; tests/test_resume.py has what it leaves of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dltrain.engine import clock, signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no POSIX system")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, object]]:
    """The handlers before, which a test may not leave changed."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield dict(before)
    after = {number: signal.getsignal(number) for number in signals.ENDING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_closed_terminal_and_a_schedulers_warning_are_asked_as_sigterm_is(number: int) -> None:
    asked: list[int] = []
    with signals.asking(asked.append):
        send(number)
        send(number)  # a terminal that closes says so twice
    assert asked == [number, number]
    assert signals.exit_code(number) == 128 + number


def test_what_is_ignored_or_awaited_by_others_is_left_to_them() -> None:
    asked: list[int] = []
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    own = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with signals.raised(), signals.asking(asked.append):
            send(signal.SIGHUP)
            send(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, own)
    assert (asked, heard) == ([], [signal.SIGUSR2])


def test_elsewhere_a_signal_is_an_exception_once() -> None:
    def twice(number: int) -> None:
        try:
            send(number)
        finally:
            send(number)  # while things are put in order

    with signals.raised(), pytest.raises(signals.Ended) as ended:
        twice(signal.SIGHUP)
    assert (str(ended.value), ended.value.number) == ("Interrupted by SIGHUP.", signal.SIGHUP)
    with signals.raised(), signals.asking(lambda number: None), pytest.raises(KeyboardInterrupt):
        twice(signal.SIGINT)


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Imports a module in the middle of which Ctrl-C comes."""
    (tmp_path / "half_done.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_done", raising=False)

    def work() -> None:
        import half_done  # type: ignore[import-not-found]

        assert half_done.whole
        time.sleep(5)

    return work


def test_in_an_import_a_signal_leaves_at_once(
    importing: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An extension that is being loaded makes another error of an exception, with a traceback."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with signals.raised(), pytest.raises(SystemExit) as end:
        importing()
    assert end.value.code == 130
    assert capfd.readouterr().err == "Interrupted.\n"


def test_once_a_run_has_begun_the_import_is_waited_for(importing: Callable[[], None]) -> None:
    with signals.raised(), signals.unfinished("Go on."), pytest.raises(signals.Ended):
        importing()
    assert sys.modules["half_done"].whole


def test_a_process_that_loads_data_is_its_parents_to_end() -> None:
    with signals.raised():
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
        time.sleep(0.05)
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGHUP)
        time.sleep(0.05)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dltrain", "model=mlp"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    status = Path(f"/proc/{process.pid}/status")
    while not _hears_sigterm(status.read_text()):
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "Interrupted.\n")


def _hears_sigterm(status: str) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def test_the_clock_rests_while_ctrl_z_has_suspended_the_process() -> None:
    """In a fork, which can stand still: a process group that no shell looks after cannot."""
    program = (
        "import os, signal, subprocess, sys, time\n"
        "from dltrain.engine import clock\n"
        "wake = f'sleep 0.4; kill -CONT {os.getpid()}'\n"
        "with clock.running():\n"
        "    began, by_wall = clock.seconds(), time.perf_counter()\n"
        "    subprocess.Popen(['sh', '-c', wake])\n"
        "    os.kill(os.getpid(), signal.SIGTSTP)\n"
        "    print(time.perf_counter() - by_wall - (clock.seconds() - began))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert 0.2 < float(done.stdout) < 5
    assert clock.seconds() <= time.perf_counter()
