"""What a run changes of its process holds while it runs, and is as before when it has ended."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.commands.sample import sample
from dltrain.engine import malloc as allocator
from dltrain.engine import runtime
from dltrain.errors import ConfigError, UserError
from dltrain.runs.load import load
from dltrain.tasks.classification import Classification
from tests import making
from tests.conftest import Compose, Train

QUICK = ("model=mlp", "data=digits", "data.limit=200", "trainer.steps=3")
CPU = torch.device("cpu")
NEWER = hasattr(torch.backends.cudnn, "conv")


def process() -> dict[str, Any]:
    """Everything of the process that a run may touch, as plain values."""
    state = {
        "python": random.getstate(),
        "numpy": str(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32),
        "flushed": bool(torch.tensor(1e-30) * 1e-10 == 0),
        "patched": [n for n, m in wrapped() if vars(m).get("__dynamo_disable") is m],
        "threads": torch.get_num_threads(),
        "collected": (gc.isenabled(), gc.get_freeze_count()),
        "signals": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
        "path": list(sys.path),
    }
    return state | {f"precision of {name}": value for name, value in newer_switches().items()}


def wrapped() -> list[tuple[str, Any]]:
    """The methods of torch's optimizers that ask the compiler before they do anything."""
    methods = vars(torch.optim.Optimizer).items()
    return [(n, m.__wrapped__) for n, m in methods if "_compile.py" in str(code_file(m))]


def code_file(method: object) -> str:
    return getattr(getattr(method, "__code__", None), "co_filename", "")


def newer_switches() -> dict[str, str]:
    if not NEWER:
        return {}
    places: list[tuple[Any, str]] = [
        (torch.backends.cuda, "matmul"),
        *((torch.backends.cudnn, kind) for kind in ("conv", "rnn")),
        *((torch.backends.mkldnn, kind) for kind in ("matmul", "conv", "rnn")),
    ]
    return {
        f"{owner.__name__}.{kind}": getattr(owner, kind).fp32_precision for owner, kind in places
    }


@pytest.fixture(params=["as torch begins", "as a user may have it"])
def before(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The process before a run, of one who has set nothing or everything otherwise."""
    own = request.param != "as torch begins"
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    torch.rand(5)
    for _, method in wrapped():
        vars(method).pop("__dynamo_disable", None)
    torch.set_flush_denormal(False)
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    switches = newer_switches()
    if own:
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_flush_denormal(True)
    state = process()
    yield state
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = cudnn
    for name, value in switches.items():
        owner, _, kind = name.rpartition(".")
        getattr(sys.modules[owner], kind).fp32_precision = value


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The process in the middle of the last training step."""
    seen: dict[str, Any] = {}
    whole_step = Classification.train_step

    def train_step(self: Classification, *arguments: Any) -> Any:
        seen.update(process())
        return whole_step(self, *arguments)

    monkeypatch.setattr(Classification, "train_step", train_step)
    return seen


@pytest.mark.parametrize(
    "overrides", [(), ("trainer.deterministic=true",), ("trainer.tune_process=false",)]
)
def test_a_run_leaves_the_process_as_it_was(
    train: Train, before: dict[str, Any], during: dict[str, Any], overrides: tuple[str, ...]
) -> None:
    train(*QUICK, *overrides)

    assert process() == before
    deterministic = "trainer.deterministic=true" in overrides
    assert during["deterministic"] == (2 if deterministic else 0)
    assert during["workspace"] == (":4096:8" if deterministic else before["workspace"])
    assert during["tf32"] == (False, False)
    assert not {value for name, value in during.items() if "precision of" in name} & {
        *("tf32", "bf16"),
    }
    assert (during["seed"], before["seed"]) == (0, 13)


def test_a_run_that_fails_leaves_the_process_as_it_was(train: Train, before: Any) -> None:
    with pytest.raises(UserError, match="not finite"):
        train(*QUICK, "trainer.deterministic=true", "optimizer=sgd", "optimizer.lr=1e30")
    assert process() == before


def test_a_bug_and_an_interruption_leave_the_process_as_it_was(
    train: Train, before: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (RuntimeError, KeyboardInterrupt):

        def train_step(*arguments: Any, error: type[BaseException] = error) -> None:
            random.random()
            torch.rand(1)
            raise error

        monkeypatch.setattr(Classification, "train_step", train_step)
        if error is RuntimeError:
            with pytest.raises(RuntimeError):
                train(*QUICK)
        else:
            assert train(*QUICK).summary["status"] == "interrupted"
        assert process() == before


def test_a_config_that_is_wrong_leaves_the_process_as_it_was(train: Train, before: Any) -> None:
    for mistake in ("optimizer.lr=-1", "seed=-1", "trainer.epochs=0"):
        with pytest.raises(ConfigError):
            train(*QUICK, mistake)
        assert process() == before


def test_a_resumed_run_leaves_the_process_as_it_was(
    train: Train, before: Any, during: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_step = Classification.train_step
    with monkeypatch.context() as patch:

        def train_step(self: Classification, *arguments: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return whole_step(self, *arguments)

        patch.setattr(Classification, "train_step", train_step)
        cut = train(*QUICK)
    assert cut.summary["steps"] == 1
    during.clear()

    assert run.resume(str(cut.folder), Path())["status"] == "finished"

    assert process() == before
    assert (during["flushed"], bool(during["patched"])) == (True, True)


def test_loading_and_assembling_draw_nothing_from_the_users_generators(
    train: Train, compose: Compose, before: Any
) -> None:
    folder = train(*QUICK).folder
    load(folder)
    with Assembly(compose(*QUICK, "device=cpu")) as assembly:
        assembly.read()
    assert process() == before


def test_sampling_draws_nothing_from_the_users_generators(
    tmp_path: Path, before: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", making.PACKAGE)
    folder = making.trained(tmp_path, "trainer.steps=1")
    whole = making.Maker.sample

    def careless(self: making.Maker, *arguments: Any) -> torch.Tensor:
        random.random()
        torch.rand(1)
        return whole(self, *arguments)

    monkeypatch.setattr(making.Maker, "sample", careless)
    assert sample([str(folder), "--n", "4"]) == 0
    assert process() == before


def test_a_run_is_tuned_unless_told_otherwise(
    train: Train, during: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, name: int, value: int) -> None:
            told.append((name, value))

        def malloc_trim(self, pad: int) -> None:
            pass

    monkeypatch.setattr("dltrain.engine.malloc.sys.platform", "linux")
    monkeypatch.setattr("dltrain.engine.malloc.ctypes.CDLL", lambda name: Library())
    for name in [n for n in os.environ if n.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)

    train(*QUICK)
    assert during["flushed"]
    assert during["patched"] == [name for name, _ in wrapped()] != []
    assert [value for _, value in told] == [
        *(allocator.LARGEST, allocator.KEPT),
        *(allocator.DEFAULT, allocator.DEFAULT),
    ]
    told.clear()

    train(*QUICK, "trainer.tune_process=false")
    assert not during["flushed"]
    assert during["patched"] == []
    assert told == []


def test_results_depend_neither_on_tuning_nor_on_what_was_drawn_before(train: Train) -> None:
    settings = ("model.dropout=0.3", "data.augment.shift=1", "data.limit=200", "trainer.epochs=2")
    ends = []
    for overrides in ((), ("trainer.tune_process=false",), ()):
        folder = train(*settings, *overrides).folder
        weights = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["task"]
        ends.append((weights, (folder / "metrics.csv").read_bytes()))
        random.random()
        torch.rand(3)
    (first, metrics), *others = ends
    for weights, rows in others:
        assert rows == metrics
        assert all(torch.equal(value, first[name]) for name, value in weights.items())


def test_seeding_is_that_of_torch_and_python() -> None:
    with runtime.settings(seed=5, device=CPU, deterministic=False, tf32=False, tune=False):
        drawn, of_python = torch.randn(7), random.random()
    torch.manual_seed(5)
    random.seed(5)
    assert torch.equal(drawn, torch.randn(7))
    assert of_python == random.random()


@pytest.mark.skipif(not NEWER, reason="this torch has no switches for each kind of product")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_float32_is_float32_also_where_the_newer_switches_say_otherwise() -> None:
    """In a process of its own: torch refuses to go back from the newer switches to the older."""
    program = (
        "import torch\n"
        "from dltrain.engine import runtime\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "def shown():\n"
        "    b = torch.backends\n"
        "    kinds = (b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv)\n"
        "    return [kind.fp32_precision for kind in kinds]\n"
        "before = shown()\n"
        "cpu = torch.device('cpu')\n"
        "with runtime.settings(seed=0, device=cpu, deterministic=False, tf32=False, tune=True):\n"
        "    within = shown()\n"
        "print('tf32' in before, 'tf32' in within, shown() == before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False", "True"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_devices_generator_is_kept_too() -> None:
    device = torch.device("cuda:0")
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state(device)
    with runtime.settings(seed=5, device=device, deterministic=False, tf32=True, tune=True):
        drawn = torch.rand(3, device=device)
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.equal(torch.cuda.get_rng_state(device), before)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3, device=device), drawn)


def test_garbage_is_collected_again_after_a_command() -> None:
    with runtime.no_collection():
        assert not gc.isenabled()
        runtime.collect_again()
        assert gc.isenabled()
        assert gc.get_freeze_count()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_the_users_word_on_waiting_threads_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    runtime.wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    runtime.wait_asleep()
    assert int(os.environ["GOMP_SPINCOUNT"]) > 0


@pytest.mark.parametrize(("library", "looked"), [("json", False), ("onnx", True)])
def test_garbage_is_looked_for_at_the_exit_only_where_someone_counts_it(
    library: str, looked: bool
) -> None:
    """nanobind, by which onnx is bound, writes what is left to the error output."""
    if library == "onnx":
        pytest.importorskip("onnx", reason="export to onnx is an extra")
    lines = (
        f"import gc, {library}",
        "from dltrain.engine import runtime",
        "runtime.leave_garbage()",
        "print(gc.get_freeze_count() == 0)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (f"{looked}\n", "")
