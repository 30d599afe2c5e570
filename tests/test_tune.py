"""A search over configs: its grammar, its trials whatever dies, and what it finds."""

from __future__ import annotations

import csv
import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")

from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.storages import RDBStorage  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from sqlalchemy.exc import IntegrityError  # noqa: E402

from dltrain import cli  # noqa: E402
from dltrain.config.compose import separate  # noqa: E402
from dltrain.config.space import Choice, Interval  # noqa: E402
from dltrain.contracts.metric import Evaluation  # noqa: E402
from dltrain.contracts.task import Monitor  # noqa: E402
from dltrain.errors import ConfigError, UserError  # noqa: E402
from dltrain.tuning import alive, trials, worker  # noqa: E402
from dltrain.tuning import study as studies  # noqa: E402
from dltrain.tuning.alive import HOLDER, Holder, Watch, machine  # noqa: E402
from dltrain.tuning.reporting import Reporting  # noqa: E402
from dltrain.tuning.trials import ERROR, GIVEN_BACK, ORIGIN, Queue, counted, replace_lost  # noqa: E402

Tune = Callable[..., int]
SHORT = ("data=iris", "model=logreg", "callbacks=none", "device=cpu", "trainer.steps=2")
LR = "optimizer.lr=log(1e-3,1)"
SPACE = {"lr": FloatDistribution(0.1, 1.0)}


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("log(1e-4,1e-1)", Interval(1e-4, 1e-1, log=True)),
        ("tag(log, interval(1e-4,1e-1))", Interval(1e-4, 1e-1, log=True)),
        ("log(1, 100)", Interval(1.0, 100.0, log=True)),
        ("uniform(0,.5)", Interval(0.0, 0.5)),
        ("int(1,8)", Interval(1, 8)),
        ("int(log(8,512))", Interval(8, 512, log=True)),
        ("int(interval(8,512))", Interval(8, 512)),
        ("range(16,129,16)", Interval(16, 128, step=16)),
        ("range(1,4)", Interval(1, 3)),
        ("1,null,x", Choice(("1", "null", "x"))),
        ("'a,b',c", Choice(("'a,b'", "c"))),
        ("[1,2],[3]", Choice(("[1,2]", "[3]"))),
        ("choice(a,b)", Choice(("a", "b"))),
        ("shuffle(1,2,3)", Choice(("1", "2", "3"))),
    ],
)
def test_what_a_key_may_be_given(typed: str, found: Interval | Choice) -> None:
    fixed, space = separate(["seed=1", f"key={typed}"])
    assert fixed == ["seed=1"]
    assert repr(space) == repr({"key": found})  # 8 is no 8.0 here


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("log(0,1)", "log is of numbers above 0"),
        ("uniform(2,1)", "2 is not below 1"),
        ("int(0.5,3)", "int is of whole numbers, and 0.5 is none"),
        ("int(tag(log, interval(1,3.5)))", "int is of whole numbers, and 3.5 is none"),
        ("logg(1,2)", r"there is no logg\(…\) \(did you mean log\?\); write log"),
        ("log(1)", "this is no range; write log"),
        ("interval(1,inf)", "two finite ends"),
        ("range(5,6)", "two values at least"),
        ("tag(log,range(1,9,2))", "log goes with no step"),
        ("1,2,1", "1 is there twice"),
        ("glob(*)", "the choices must be listed"),
    ],
)
def test_what_is_no_range_is_refused(typed: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        separate([f"key={typed}"])
    with pytest.raises(ConfigError, match="given twice"):
        separate(["key=1", "key=1,2"])


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """``tune("--trials", "2")``: a search in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *more: cli.dispatch(["tune", *SHORT, LR, *more])


def trials_of(name: str) -> list[dict[str, str]]:
    with Path(f"outputs/studies/{name}/trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_search_ends_with_its_best_command_and_repeats(
    tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--trials", "2", "data.batch_size=8,16", "name='a b'") == 0
    said = capsys.readouterr().out
    rows = trials_of("a b")
    best = max(rows, key=lambda row: float(row["value"]))
    lr, size = float(best["optimizer.lr"]), best["data.batch_size"]
    words = [*SHORT, "name='a b'", f"optimizer.lr={lr!r}", f"data.batch_size={size}"]
    assert said.splitlines()[-1] == shlex.join(["dltrain", *words])
    assert all(len(line) <= 80 for line in said.splitlines()[:-1] if "/" not in line)
    assert (Path(best["run"]) / "overrides.txt").read_text().splitlines() == words
    assert Path("outputs/studies/a b/history.png").is_file()
    assert not Path("outputs/latest").exists()

    # In two goes, the same comes of it as in one; typed once more, nothing is trained.
    for count in ("1", "2", "2"):
        again = ("--study", "again", "--trials", count, "--json")
        assert tune(*again, "data.batch_size=8,16", "name='a b'") == 0
    keys = ("trial", "value", "optimizer.lr", "data.batch_size")
    assert [[r[k] for k in keys] for r in trials_of("again")] == [
        [r[k] for k in keys] for r in rows
    ]
    assert len(list(Path("outputs/studies/again").rglob("config.yaml"))) == 2
    told = capsys.readouterr().out
    found = json.loads(told[told.rindex("\n{") :])
    assert (found["mode"], found["best"]["value"]) == ("max", float(best["value"]))


def test_a_trial_of_a_dead_process_goes_on_and_counts_once(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once cut off in the middle of a run, once between its end and the word of it."""
    often = ("trainer.evaluate_steps=1", "trainer.checkpoint_seconds=0")
    several = (*often, "--trials", "2", "--study", "killed")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.core.loop.Trainer._end_period", cut)
        assert tune(*several) == 128 + signal.SIGINT
    assert "Go on with: dltrain tune" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(worker._Trial, "_tell", cut)
        with pytest.raises(KeyboardInterrupt):
            tune(*several)
    assert tune(*several) == 0

    rows = trials_of("killed")
    assert [(row["trial"], row["status"]) for row in rows] == [("0", "finished"), ("1", "finished")]
    log = (Path(rows[0]["run"]) / "train.log").read_text()
    assert log.count("2 steps on cpu") == 2, "cut off, then to the end, then told without training"
    assert len(list(Path("outputs/studies/killed").rglob("summary.json"))) == 2


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["data.validation=0"], "there is no validation split to choose by"),
        (["data=iris,digits"], "given twice"),
        (["seed=1,2"], "seed: decides which examples"),
        (["trainer.monitor=loss,accuracy"], "makes no run better"),
        (["optimizer.eps=uniform(-1,1)"], "must be >= 0, got -1.0"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--study", "a/b"], "must be the name of a folder"),
        (["--storage", "nonsense"], "the database cannot be opened"),
    ],
)
def test_what_cannot_be_searched_is_refused(tune: Tune, more: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        tune(*more)
    assert not list(Path().rglob("summary.json"))


def test_a_database_that_another_process_is_making_is_opened_a_moment_later(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def open_one(url: str) -> RDBStorage:
        made.append(url)
        if len(made) < 3:
            raise IntegrityError("INSERT", None, Exception("UNIQUE constraint failed"))
        return RDBStorage(url)

    monkeypatch.setattr(studies, "RDBStorage", open_one)
    monkeypatch.setattr(studies, "PAUSES", (0.0, 0.0))

    assert tune("--trials", "1", "--study", "a", "--storage", "sqlite:///x.db") == 0
    assert made[:3] == ["sqlite:///x.db"] * 3


def test_a_study_begun_with_something_else_is_not_gone_on_with(tune: Tune) -> None:
    assert tune("--trials", "1", "--study", "a") == 0
    with pytest.raises(UserError, match=r"something else: the overrides\. .* --study another name"):
        tune("--trials", "1", "data.batch_size=8", "--study", "a")


def test_a_trial_that_is_refused_is_counted_and_told(
    tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ends are right, each by itself."""
    both = ("schedule.warmup_steps=0,1", "schedule.warmup_epochs=0,1")
    assert tune(*both, "--trials", "2", "--study", "a") == 0
    assert [row["status"] for row in trials_of("a")] == ["finished", "failed"]
    assert "failed: schedule" in capsys.readouterr().out


@pytest.fixture
def study() -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


@pytest.fixture
def queue(study: Any, tmp_path: Path) -> Queue:
    return Queue(study, SPACE, 2, 0, Holder(tmp_path))


def die(study: Any, number: int, tmp_path: Path) -> None:
    """The process that has the trial is of this machine, and has ended."""
    lock = tmp_path / f"{number}.lock"
    lock.touch()
    trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
    trial.set_user_attr(HOLDER, {"machine": machine(), "lock": str(lock)})


def test_one_trial_too_many_is_withdrawn(study: Any, queue: Queue) -> None:
    assert [queue._ask() is None for _ in range(3)] == [False, False, True]
    assert [trials.number_of(trial) for trial in counted(study)] == [0, 1]
    for number in (0, 1):
        study.tell(number, 0.5)
    assert queue.next() is None


def test_a_dead_processes_trial_keeps_number_and_values_until_it_has_died_thrice(
    study: Any, queue: Queue, tmp_path: Path
) -> None:
    first = queue.next()
    assert first is not None
    first.report(0.25, 500)
    for end in ("death", "death", "orderly"):
        if end == "orderly":  # which is no death
            last = optuna.trial.Trial(study, study.trials[-1]._trial_id)
            last.set_user_attr(GIVEN_BACK, True)
        die(study, len(study.trials) - 1, tmp_path)
        again = queue.next()
        assert again is not None
        assert again.params == first.params
        assert study.trials[-1].intermediate_values == {500: 0.25}
        assert [trials.number_of(trial) for trial in counted(study)] == [0]
    die(study, len(study.trials) - 1, tmp_path)
    other = queue.next()
    assert other is not None
    assert other.params != first.params
    given_up = counted(study)[0]
    assert given_up.state == TrialState.FAIL
    assert given_up.user_attrs[ERROR] == "its process died 3 times"


def test_a_trial_lost_in_the_moment_of_replacing_it_is_found(
    study: Any, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queue.next() is not None
    die(study, 0, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_add_again", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            queue.next()
    assert counted(study) == []
    for _ in range(2):
        replace_lost(study)
    assert [trial.user_attrs[ORIGIN] for trial in counted(study)] == [0]


def test_of_another_machine_a_process_is_dead_when_it_no_longer_counts(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(alive.time, "monotonic", lambda: now[0])
    trial, watch = study.ask(), Watch()
    trial.set_user_attr(HOLDER, {"machine": "another", "lock": "/nowhere"})
    dead = []
    for when, beat in ((0, 1), (100, 1), (110, 2), (220, 2), (240, 2)):
        now[0] = when
        trial.set_user_attr("beat", beat)
        dead.append(watch.is_dead(study.trials[0]))
    assert dead == [False, False, False, False, True]


class View:
    """What :class:`Reporting` asks of a run."""

    monitor = Monitor("accuracy", "max")

    def __init__(self, path: Path) -> None:
        self.path, self.step, self.reason = path, 0, ""

    @property
    def progress(self) -> Any:
        return type("Progress", (), {"step": self.step, "max_steps": 8})

    def stop(self, reason: str) -> None:
        self.reason = reason


def test_evaluations_are_reported_once_and_a_bad_run_is_ended(study: Any, tmp_path: Path) -> None:
    study.pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    trial, view = study.ask(), View(tmp_path)
    reporting = Reporting(trial, prune=True)
    reporting.start(view)
    for step, value in ((2, 0.9), (2, 0.1), (4, float("nan")), (6, 0.4)):
        view.step = step
        reporting.evaluated(view, "train", Evaluation({"accuracy": 0.0}))
        reporting.evaluated(view, "validation", Evaluation({"accuracy": value}))
        assert bool(view.reason) == (step == 6)
    assert study.trials[0].intermediate_values == {250: 0.9, 750: 0.4}
    assert trial.user_attrs == {"run": str(tmp_path.resolve()), "pruned": True}


def test_two_processes_share_a_search(tune: Tune, capfd: pytest.CaptureFixture[str]) -> None:
    assert tune("--trials", "3", "--jobs", "2", "name=shared") == 0
    rows = trials_of("shared")
    assert sorted(row["trial"] for row in rows) == ["0", "1", "2"]
    assert len({row["run"] for row in rows}) == 3
    assert "dltrain data=iris" in capfd.readouterr().out.splitlines()[-1]


def test_importance_is_drawn_with_the_most_on_top() -> None:
    from dltrain.reports.study import draw_importance

    axes = draw_importance({"optimizer.lr": 0.7, "model.width": 0.1, "seed": 0.2}, "f1").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "model.width", "seed", "optimizer.lr",
    ]  # fmt: skip
