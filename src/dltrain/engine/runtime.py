"""Everything that a run changes of its process, in one place, and put back when the run ends.

:func:`settings` is what a run needs, whoever asks for it: a notebook finds its process as it was.
The rest is for a process of one's own, as the command line is: it has to happen before torch
starts its threads, or pays off only there.

============================  ==========================================================
random generators             seeded; Python's, torch's of the CPU and of the run's device
deterministic operations      on or off
TF32 and other rounding       on or off: float32 is what it says
denormal numbers              flushed to zero (``tune``)
freed memory                  kept for the next step (``tune``, :mod:`dltrain.engine.malloc`)
torch's optimizers            without the compiler (``tune``, :mod:`dltrain.engine.torch_startup`)
garbage collection            after what is imported at the start, none at the exit (command line)
waiting threads               sleep soon (command line)
errors of TensorBoard's       told once (command line)
============================  ==========================================================

numpy's global generator is neither seeded nor drawn from. No torch here at the top: queries such
as ``--help`` need none.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FULL = ("none", "ieee")
"""What torch calls a precision that rounds nothing to fewer bits."""


@contextmanager
def settings(
    *, seed: int, device: torch.device, deterministic: bool, tf32: bool, tune: bool
) -> Iterator[None]:
    """The process as a run on ``device`` needs it; as it was before, afterwards.

    ``seed`` fixes the generators that training draws from. ``deterministic`` refuses operations
    whose result may vary. ``tf32`` lets float32 products of CUDA devices round their factors; else
    nothing may. These three act always, since results depend on them. ``tune`` is for speed alone:
    it flushes denormal numbers to zero, keeps freed memory and leaves torch's compiler out.

    Two things cannot be put back whole, and only ``tune=False`` avoids them. Threads inherit at
    their start whether denormal numbers are flushed: torch's own, if the run is what starts them,
    flush them until the process ends, and if they run already, they do not flush in the run
    either. glibc's thresholds cannot be read: they end at their documented defaults, and no longer
    adapt themselves as they do in an untouched process.
    """
    with ExitStack() as stack:
        if tune:
            stack.enter_context(_tuned())
        stack.enter_context(generators_kept(device))
        seed_generators(seed, device)
        stack.enter_context(_deterministic(deterministic))
        stack.enter_context(_rounded(tf32))
        yield


@contextmanager
def generators_kept(device: torch.device | None = None) -> Iterator[None]:
    """What is drawn inside leaves no trace: Python's generator, torch's of the CPU and ``device``.

    A CUDA device is initialized by this, for else its generator has no state to come back to.
    """
    import torch

    from dltrain.engine import generators

    where = device or torch.device("cpu")
    before = generators.state(where)
    try:
        yield
    finally:
        generators.restore(before, where)


@contextmanager
def imports_without_traces() -> Iterator[None]:
    """What libraries change of the process as they are imported is put back.

    scikit-learn sets environment variables, SciPy appends filters of warnings, rich draws from
    Python's generator. Variables and filters are put back in the main thread alone, for what
    another thread has changed of them meanwhile would be lost.
    """
    import random

    drawn = random.getstate()
    try:
        if threading.current_thread() is threading.main_thread():
            with warnings.catch_warnings(), _environment_kept():
                yield
        else:
            yield
    finally:
        random.setstate(drawn)


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def hear_of_threads_once() -> None:
    """Leave out the traceback of a thread whose error is raised again where it is waited for.

    TensorBoard's does so, as when the run's folder is gone, or the disk full.
    """
    before = threading.excepthook

    def told(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("tensorboard."):
            before(failure)

    threading.excepthook = told


def wait_asleep() -> None:
    """Have torch's waiting threads spin a moment, then sleep; before torch is imported.

    Left alone they spin on, which on a machine that does anything else costs a small network nine
    tenths of its speed (docs/performance.md). What the user has set stands.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection until :func:`collect_again`, or the end.

    Composing and importing make a million objects, and hardly one of them is garbage.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()  # else libraries that count their objects at the exit report leaks
        gc.enable()


def leave_garbage() -> None:
    """Have Python look for no garbage as the process ends: more than half of what its end takes.

    Libraries bound by nanobind count their objects at the very end, and report those left as leaks:
    where one is loaded, all is looked at.
    """
    kinds = type.__subclasses__(type)
    if not any(kind.__dict__.get("__module__") == "nanobind" for kind in kinds):
        gc.freeze()


def collect_again() -> None:
    """From here on there is garbage; what has been imported is none, and is not looked at again.

    Of several runs only the first does this: what another has left is garbage, and goes before the
    next one begins. It may hold a network, which no count of objects tells.
    """
    if gc.isenabled():
        gc.collect()
        return
    gc.freeze()
    gc.enable()


@contextmanager
def cycles_freed() -> Iterator[None]:
    """What is made in here and refers to itself is freed at the end; not for a step of training.

    A figure of matplotlib's is thousands of objects in cycles, a trace of torch's holds its network
    in one. Those that outlive two collections wait for one of all objects: some tens of MB, by
    then. Without collections meanwhile they are the youngest, which alone are looked at.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if enabled:
            gc.enable()


@contextmanager
def _tuned() -> Iterator[None]:
    import torch

    from dltrain.engine.malloc import memory_kept
    from dltrain.engine.torch_startup import compiler_kept_out

    with compiler_kept_out(torch.optim.Optimizer), _denormals_flushed(), memory_kept():
        yield


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers too small for their type's full precision are zero, in this thread and its children.

    A processor is slow with them, twenty times in a recurrent network whose gradient reaches far
    back (docs/performance.md). Threads inherit this, so it comes before the first of them.
    """
    import numpy as np
    import torch

    before = sys.float_info.min / 2 == 0  # nothing else tells
    # numpy before 2.3, the last for Python 3.10, warns if it measures its types only afterwards.
    for kind in (np.float32, np.float64):
        str(np.finfo(kind))
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of :func:`generators_kept`, and no others.

    ``torch.manual_seed`` would seed every device's, those too that are not yet initialized.
    """
    import random

    import torch

    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    import torch

    mode, workspace = torch.get_deterministic_debug_mode(), os.environ.get(WORKSPACE)
    if wanted:
        os.environ.setdefault(WORKSPACE, ":4096:8")
    changed = mode != (2 if wanted else 0)
    if changed:  # only then: this imports the compiler
        torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        if changed:
            torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)
        if wanted and workspace is None:
            os.environ.pop(WORKSPACE, None)


@contextmanager
def _rounded(tf32: bool) -> Iterator[None]:
    """Products in float32 with factors of 10 bits on CUDA devices, or of all 23, everywhere.

    torch rounds in convolutions unless told otherwise, and then float32 is not what it says.
    """
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [(switch, switch.read()) for switch in _precision_switches()]
    cudnn.allow_tf32 = matmul.allow_tf32 = tf32
    for switch in _newer_switches():
        if switch.read() not in FULL and not (tf32 and switch.of_cuda):
            switch.write("ieee")
    try:
        yield
    finally:
        for switch, value in before:
            if value is not None and switch.read() != value:
                switch.write(value)


class _Switch:
    """A setting of torch's precision that can be read and written."""

    def __init__(
        self, read: Callable[[], Any], write: Callable[[Any], Any], of_cuda: bool = True
    ) -> None:
        self._read, self.write, self.of_cuda = read, write, of_cuda

    def read(self) -> Any:
        """None where the user has set old and new switches to what contradicts each other."""
        try:
            return self._read()
        except RuntimeError:
            return None


def _attribute(holder: object, name: str, of_cuda: bool = True) -> _Switch:
    return _Switch(partial(getattr, holder, name), partial(setattr, holder, name), of_cuda)


def _precision_switches() -> list[_Switch]:
    """All, the coarser first: writing one of those writes finer ones."""
    import torch

    return [
        _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        _attribute(torch.backends.cudnn, "allow_tf32"),
        _attribute(torch.backends.cuda.matmul, "allow_tf32"),
        *_newer_switches(),
    ]


def _newer_switches() -> list[_Switch]:
    """Those for each kind of product, which came with torch 2.9."""
    from torch import backends

    places: list[tuple[Any, str, bool]] = [
        (backends.cuda, "matmul", True),
        (backends.cudnn, "conv", True),
        (backends.cudnn, "rnn", True),
        (backends.mkldnn, "matmul", False),
        (backends.mkldnn, "conv", False),
        (backends.mkldnn, "rnn", False),
    ]
    if not hasattr(backends.cudnn, "conv"):
        return []
    return [_attribute(getattr(a, b), "fp32_precision", of_cuda) for a, b, of_cuda in places]
