"""What a run has written is there, whole, after a kill, a full disk, a flipped bit."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dltrain import training as run
from dltrain.errors import Interrupted, UserError
from dltrain.prolong import prolong
from dltrain.runs import checkpoint, durable
from dltrain.runs.finding import latest
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import load, reader_of_run
from tests.conftest import Compose
from tests.interrupting import interrupt_after
from tests.making import edit, flip
from tests.test_resume import assert_same_end

DRAWN = ("callbacks=[figures]", "data=diabetes", "model=mlp")
"""Of numbers, for they have the fewest figures."""
SETTINGS = (
    "callbacks=none",
    "data.limit=160",
    "data.batch_size=16",
    "optimizer=adam",
    "trainer.epochs=2",
    "trainer.log_every=5",
    "trainer.accumulate=2",
    "trainer.evaluate_every=1",
    "device=cpu",
)


class KilledError(BaseException):
    """As SIGKILL: nothing of the run is asked any more."""


def undisturbed(output_dir: Path, *more: str) -> Path:
    from dltrain.config import compose as composition

    run.train(composition.compose([*SETTINGS, *more, f"output_dir={output_dir}"]))
    return latest(output_dir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("drawn"), *DRAWN)


@pytest.fixture(scope="module")
def cut_before(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Any, ...], Path]:
    """Runs that were asked to end, by what was asked: each is trained once."""
    return {}


@pytest.fixture
def cut(
    compose: Compose,
    cut_before: dict[tuple[Any, ...], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """A run of one's own that was asked to end after so many steps."""

    def cut(step: int, *more: str) -> Path:
        asked = (step, *more)
        if asked not in cut_before:
            place = tmp_path_factory.mktemp("cut")
            with monkeypatch.context() as patch:
                interrupt_after(patch, step, signal.SIGTERM)
                run.train(compose(*SETTINGS, *more, f"output_dir={place}"))
            cut_before[asked] = latest(place)
        found = cut_before[asked]
        folder = tmp_path / found.parent.name / found.name
        shutil.copytree(found, folder)
        return folder

    return cut


@pytest.fixture
def killed(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Path]]:
    """A run that was killed as it called the given method, for the given time."""

    def killed(place: str, call: int = 1, *more: str) -> Path:
        calls = 0

        def die(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KilledError
            return before(*arguments, **named)

        with monkeypatch.context() as patch:
            module, _, name = place.rpartition(".")
            before = (
                pytest.importorskip(module.rpartition(".")[0])
                .__dict__[module.rpartition(".")[2]]
                .__dict__[name]
            )
            patch.setattr(place, die)
            patch.setattr(run.Run, "_fail", lambda self, error: None)
            with pytest.raises(KilledError):
                run.train(compose(*SETTINGS, *more, f"output_dir={tmp_path}"))
        return latest(tmp_path)

    return killed


def names(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in found if not name.startswith("events.") and name != ".lock"}


def assert_whole(one: Path, other: Path) -> None:
    assert_same_end(one, other)
    assert names(one) == names(other)
    assert RunFolder(other).summary()["status"] == "finished"
    for line in (other / "checksums.sha256").read_text().splitlines():
        RunFolder(other).read(line[66:])


def test_accumulated_gradients_keep_their_norms(whole: Path, cut: Callable[..., Path]) -> None:
    folder = cut(14)
    run.resume(str(folder), folder.parent)
    assert_whole(whole, folder)


def test_a_kill_before_the_first_checkpoint_begins_again(
    whole: Path, killed: Callable[..., Path]
) -> None:
    folder = killed("dltrain.core.loop.Trainer._end_period", 2, "callbacks=[tensorboard]")
    assert not (folder / checkpoint.LAST).exists()
    (before,) = folder.glob("events.*")
    run.resume(str(folder), folder.parent)
    assert before not in folder.glob("events.*")
    for name in ("metrics.csv", "tables/test_per_class.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_weights_that_a_run_began_with_are_begun_with_again(
    compose: Compose, whole: Path, killed: Callable[..., Path], tmp_path: Path
) -> None:
    run.train(compose(*SETTINGS, f"init_from={whole}", f"output_dir={tmp_path / 'one'}"))
    folder = killed("dltrain.core.loop.Trainer._end_period", 1, f"init_from={whole}")
    assert (folder / checkpoint.INITIAL).exists()
    run.resume(str(folder), folder.parent)
    assert_whole(latest(tmp_path / "one"), folder)
    folder = killed("dltrain.core.loop.Trainer._end_period", 1, f"init_from={whole}")
    (folder / checkpoint.INITIAL).unlink()
    with pytest.raises(UserError, match="not the weights that it began with"):
        run.resume(str(folder), folder.parent)


@pytest.mark.parametrize(
    "place",
    [
        "dltrain.core.loop.Trainer._test",
        "dltrain.callbacks.figures.Figures.end",
        "dltrain.runs.folder.RunFolder.sync",
    ],
)
def test_a_kill_after_the_last_step_costs_no_file(
    drawn: Path, killed: Callable[..., Path], place: str
) -> None:
    folder = killed(place, 1, *DRAWN)
    assert RunFolder(folder).summary()["status"] == "running"
    run.resume(str(folder), folder.parent)
    assert_whole(drawn, folder)


def test_an_interruption_of_the_figures_is_one_of_the_run(
    drawn: Path, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.callbacks.figures.Figures.end", interrupted)
        summary = run.train(compose(*SETTINGS, *DRAWN, f"output_dir={tmp_path}"))
    assert (summary["status"], summary["signal"]) == ("interrupted", signal.SIGINT)
    run.resume("latest", tmp_path)
    assert_whole(drawn, latest(tmp_path))


def test_a_start_that_is_cut_off_leaves_nothing(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.training.keep_examples", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            run.train(compose(*SETTINGS, f"output_dir={tmp_path}"))
    assert not isinstance(caught.value, Interrupted)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (left,) = tmp_path.iterdir()
    abandoned = left / ".run-1.tmp"
    (abandoned / "checkpoints").mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    RunFolder.create(tmp_path, left.name).discard()
    assert not abandoned.exists()


def test_temporary_files_of_a_kill_are_removed(whole: Path, cut: Callable[..., Path]) -> None:
    folder = cut(3)
    for name in (".summary.json.abc.tmp", "checkpoints/.last.pt.abc.tmp", "tables/.a.csv.x.tmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("half")
    run.resume(str(folder), folder.parent)
    assert_whole(whole, folder)


def test_of_a_damaged_checkpoint_the_one_before_it_is_used(
    whole: Path, cut: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = cut(8, "trainer.checkpoint_seconds=0")
    flip(folder / checkpoint.LAST)
    with caplog.at_level(logging.WARNING):
        run.resume(str(folder), folder.parent)
    assert "last.pt" in caplog.text
    assert "Going on from the one before it, previous.pt" in caplog.text
    for name in ("metrics.csv", "tables/test_per_class.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not (folder / checkpoint.PREVIOUS).exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / "metrics.csv"), "metrics.csv is not what the run had"),
        (lambda folder: os.truncate(folder / "metrics.csv", 40), "has 40 bytes, and had"),
        (lambda folder: flip(folder / "config.yaml"), "config.yaml is not what the run wrote"),
        (lambda folder: flip(folder / "reader.json"), "reader.json is not what the run wrote"),
        (lambda folder: flip(folder / "checksums.sha256"), "damaged|is not what|lists it"),
        (lambda folder: flip(folder / checkpoint.BEST), "Remove it to go on without the best"),
        (
            lambda folder: (folder / checkpoint.BEST).replace(folder / checkpoint.LAST),
            "it was saved as best.pt",
        ),
    ],
)
def test_what_is_damaged_is_named(
    cut: Callable[..., Path], damage: Callable[[Path], Any], message: str
) -> None:
    def use(folder: Path) -> None:
        reader_of_run(folder)
        run.resume(str(folder), folder.parent)

    folder = cut(14)
    damage(folder)
    with pytest.raises(UserError, match=message):
        use(folder)


@pytest.mark.parametrize("name", ["summary.json", "overrides.txt"])
def test_what_a_use_depends_on_is_not_taken_from_elsewhere(
    whole: Path, tmp_path: Path, name: str
) -> None:
    """Which weights are the best, and what was typed: guessed, another run would be used."""
    folder = tmp_path / "runs" / "name" / "whole"
    shutil.copytree(whole, folder)
    if name == "summary.json":
        (folder / name).unlink()
        with pytest.raises(UserError, match=name):
            load(folder)
    else:
        (folder / name).write_text("seed=1\n")
        with pytest.raises(UserError, match=f"{name} is not what the run wrote"):
            prolong(str(folder), tmp_path, ["trainer.epochs=9"])


def test_what_was_removed_on_purpose_is_done_without(
    cut: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = cut(14)
    for name in ("metrics.csv", checkpoint.BEST):
        (folder / name).unlink()
    edit(folder, "overrides.txt", "seed=1\n")
    with caplog.at_level(logging.WARNING):
        assert run.resume(str(folder), folder.parent)["status"] == "finished"
    assert "metrics.csv was removed" in caplog.text
    assert "best.pt was removed" in caplog.text
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,split,name,value"
    assert int(lines[1].split(",")[0]) > 14


def test_a_checkpoint_of_another_run_is_refused(
    compose: Compose, cut: Callable[..., Path], tmp_path: Path
) -> None:
    folder = cut(5)
    run.train(compose(*SETTINGS, "seed=5", f"output_dir={tmp_path / 'other'}"))
    other = latest(tmp_path / "other")
    (other / checkpoint.LAST).replace(folder / checkpoint.LAST)
    with pytest.raises(UserError, match=r"of another run than summary\.json beside it"):
        run.resume(str(folder), folder.parent)


def test_a_full_disk_is_one_message_and_the_run_can_go_on(
    whole: Path, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = 0

    def full(handle: int) -> None:
        nonlocal saved
        saved += 1
        if saved > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            UserError, match=r"No space left on device\. Make room, then go on with"
        ):
            run.train(compose(*SETTINGS, "trainer.checkpoint_seconds=0", f"output_dir={tmp_path}"))
    run.resume("latest", tmp_path)
    for name in ("metrics.csv", "tables/test_per_class.csv"):
        assert (latest(tmp_path) / name).read_bytes() == (whole / name).read_bytes()


def test_a_disk_that_has_no_room_for_the_lock_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, timeout: float) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dltrain.runs.folder.FileLock.acquire", full)
    with pytest.raises(UserError, match=r"run: No space left on device\. Make room, then train"):
        RunFolder.create(tmp_path, "run")


def test_a_full_disk_in_the_middle_of_a_checkpoint_is_told_as_such(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(file.raw, "write", full, raising=False)
                file.write(b"x" * (1 << 20))
        except OSError as error:
            raise RuntimeError("inline_container.cc: unexpected pos") from error

    def full(data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises((OSError, RuntimeError)):
        durable.write_whole(tmp_path / "last.pt", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_removed_does_not_come_back(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    save = checkpoint.save_last

    def removed(folder: RunFolder, *given: Any) -> None:
        shutil.rmtree(folder.path)
        save(folder, *given)

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.runs.checkpoint.save_last", removed)
        with pytest.raises(UserError, match="is gone: somebody removed or moved it"):
            run.train(compose(*SETTINGS, f"output_dir={tmp_path}"))
    assert not list(tmp_path.glob("*/2*"))


def test_the_checksums_are_those_of_sha256sum(whole: Path) -> None:
    import hashlib

    lines = (whole / "checksums.sha256").read_text().splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    unlisted = names(whole) - set(listed)
    assert {name for name in unlisted if (whole / name).is_file()} == {
        *("checksums.sha256", "summary.json", checkpoint.LAST, checkpoint.BEST),
    }
    for name, digest in listed.items():
        assert hashlib.sha256((whole / name).read_bytes()).hexdigest() == digest
    content = json.loads((whole / "summary.json").read_text())
    content["test"]["accuracy"] += 0.001
    (whole / "summary.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"summary.json is damaged"):
        RunFolder(whole).summary()
