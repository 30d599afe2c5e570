"""Commands in forks of a process that has imported everything: a run begins in milliseconds.

``start`` is ``python -m dltrain ARGUMENTS`` but for the imports, which take longer than all that a
tiny run does. The process that forks must have started no thread: see :func:`import_everything`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pkgutil
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ENVIRONMENT = dict.fromkeys(THREADS, "1") | {
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "TOKENIZERS_PARALLELISM": "false",
}
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "sklearn.decomposition",
    "sklearn.manifold",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.Image",
    "pandas",
    "pyarrow",
    "pyarrow.csv",
    "pyarrow.parquet",
    "datasets",
    "tokenizers",
    "yaml",
    "hydra",
    "omegaconf",
    "rich.console",
    "rich.progress",
    "tensorboard.summary.writer.event_file_writer",
    "tensorboard.compat.proto.summary_pb2",
    "tensorboard.plugins.text.metadata",
    "tensorboard.plugins.histogram.summary_v2",
    "tensorboard.plugins.pr_curve.metadata",
    "tensorboard.plugins.hparams.plugin_data_pb2",
    "tensorboard.plugins.hparams.api_pb2",
    "tensorboard.plugins.custom_scalar.metadata",
    "tensorboard.util.tensor_util",
    "torch.utils.tensorboard._pytorch_graph",
    "torch.utils.data",
    "tensorboard.backend.event_processing.event_file_loader",
)
KILLED = -signal.SIGKILL


def prepare() -> None:
    """Begin this process anew with one thread to each library, if it has not begun so."""
    if not is_prepared():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})


def is_prepared() -> bool:
    """Whether the environment is that of :data:`ENVIRONMENT`."""
    return all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())


@functools.cache
def import_everything(but_little: bool = False) -> None:
    """All that a run may import, once; raises RuntimeError where that has left a thread behind.

    ``but_little``: what every run imports, and no more.
    """
    import dltrain

    if but_little:
        for name in ("dltrain.training", "dltrain.config.compose", "hydra.main"):
            importlib.import_module(name)
    else:
        for name in LIBRARIES:
            importlib.import_module(name)
        for found in pkgutil.walk_packages(dltrain.__path__, "dltrain."):
            if not found.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # an extra that is not installed
                    importlib.import_module(found.name)
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # pyarrow's allocator has a thread of its own, and sees to forks itself.
    threads = [name for name in names if name != "jemalloc_bg_thd"]
    if len(threads) > 1:
        raise RuntimeError(f"threads run after the imports, and a fork has none: {threads}")


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (``-9`` where it was killed), its words, its seconds."""

    code: int
    text: str
    seconds: float
    processor: float
    """Seconds of processor time."""

    @property
    def last_line(self) -> str:
        """The end of what it said."""
        return (self.text.strip().splitlines() or [""])[-1]


def start(
    arguments: Sequence[str],
    place: Path,
    words: Path,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
    errors: Path | None = None,
) -> int:
    """Fork ``dltrain ARGUMENTS`` in the folder ``place``, its output to ``words``; its number.

    ``before`` and ``after`` are called in the fork. What goes to stderr is written to ``errors``
    where that is given.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.setpgid(0, 0)
        os.chdir(place)
        handle = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        other = handle if errors is None else os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        silent = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((silent, 0), (handle, 1), (other, 2)):
            os.dup2(source, target)
        sys.argv = ["dltrain", *arguments]
        before()
        from dltrain.cli import main

        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        after()
        os._exit(code)


def wait(
    number: int,
    words: Path,
    kill_after: float | None = None,
    told: int | None = None,
    limit: float = 120.0,
) -> Ended:
    """Wait for a process; kill it ``kill_after`` seconds from now, or from a byte in ``told``.

    One that is not done after ``limit`` seconds is killed and has the code of a timeout, 124.
    """
    began = time.perf_counter()
    due = None if told is not None or kill_after is None else began + kill_after
    code: int | None = None
    late = False
    while code is None:
        if told is not None and select.select([told], [], [], 0.001)[0]:
            os.read(told, 1)
            due, told = time.perf_counter() + (kill_after or 0.0), None
        now = time.perf_counter()
        late = now - began > limit
        if late or (due is not None and now >= due):
            os.kill(number, signal.SIGKILL)
            _, state, used = os.wait4(number, 0)
        else:
            done, state, used = os.wait4(number, os.WNOHANG)
            if not done:
                if told is None:
                    time.sleep(0.001 if due is None else min(0.001, max(due - now, 0)))
                continue
        code = os.waitstatus_to_exitcode(state)
    text = words.read_text(encoding="utf-8", errors="replace") if words.exists() else ""
    seconds = time.perf_counter() - began
    return Ended(124 if late else code, text, seconds, used.ru_utime + used.ru_stime)


def run(
    arguments: Sequence[str],
    place: Path,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> Ended:
    """``dltrain ARGUMENTS`` in a fork, to its end."""
    words = place / "words.txt"
    return wait(start(arguments, place, words, before, after), words)


def end_group(numbers: Iterable[int]) -> None:
    """Kill what processes of :func:`start` have left running, such as workers that read images."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)
