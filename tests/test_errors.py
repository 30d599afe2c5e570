"""A user's mistake is one short message, exit code 2, and nothing on the disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dltrain import cli
from dltrain.runs.finding import latest
from dltrain.tasks.classification import Classification


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DLTRAIN_DATA", raising=False)


def refused(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """The lines of the message that a command ends with."""
    monkeypatch.setattr(sys, "argv", ["dltrain", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert "Traceback" not in err
    assert out == ""
    assert list(Path().iterdir()) == [], "a mistake leaves nothing behind"
    return err.strip().splitlines()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        # a wrong choice
        ("model=lenet", ["model=lenet", "'lenet5'"]),
        ("optimizer=adma", ["optimizer=adma", "'adam'"]),
        ("regularizer=[l2,l22]", ["regularizer=l22", "l2"]),
        ("experiment=lenet", ["experiment=lenet", "'lenet5_mnist'"]),
        # a wrong key, with the right one and the file that defines it
        ("optimizer.learning_rate=1", ["optimizer.learning_rate", "'optimizer.lr'", "adam.yaml"]),
        ("lr=1", ["lr:", "'optimizer.lr'"]),
        ("epochs=3", ["epochs:", "'trainer.epochs'"]),
        ("batch_size=3", ["batch_size:", "'data.batch_size'"]),
        ("modle=mlp", ["modle", "'model'"]),
        ("sede=1", ["sede", "'seed'", "train.yaml"]),
        ("+optimizer.learning_rate=1", ["optimizer.learning_rate", "'optimizer.lr'"]),
        # a key where a group is meant
        ("modifiers=[prune,ema]", ["the group modifier. Write 'modifier=[prune,ema]'."]),
        ("modifiers=prune", ["Write modifier=prune."]),
        ("modifiers=[prun]", ["Write 'modifier=[prune]'."]),
        ("modifiers=null", ["Write modifier=none."]),
        ("callback=[default]", ["Write 'callbacks=[default]'."]),
        ("augment=images", ["Write data/augment=images."]),
        ("task/attack=pgd", ["this task takes none; it goes with task=adversarial_training."]),
        # a key of what was not chosen
        ("modifiers.prune.every=9", ["modifiers.prune.every: ", "It comes with modifier=prune."]),
        ("regularizer.l1.strength=1", ["It comes with regularizer=l1."]),
        ("modifier.ema.decay=0", ["modifiers.ema.decay comes with modifier=ema."]),
        # a wrong type
        ("optimizer.lr=abc", ["optimizer.lr", "a number", "'abc'", "optimizer/adam.yaml"]),
        ("trainer.epochs=1.5", ["trainer.epochs", "an integer", "1.5"]),
        ("seed=x", ["seed", "an integer", "'x'"]),
        ("trainer.deterministic=3", ["trainer.deterministic", "true or false"]),
        ("data.augment.shift=far", ["data.augment.shift", "a number", "data/digits.yaml"]),
        # a wrong value
        ("optimizer.lr=-1", ["optimizer.lr must be >= 0, got -1", "optimizer/adam.yaml"]),
        ("optimizer.lr=nan", ["optimizer.lr must be a finite number, got nan"]),
        ("schedule.warmup_epochs=inf", ["schedule.warmup_epochs must be a finite number"]),
        ("schedule.warmup_epochs=-1", ["schedule.warmup_epochs must be at least 0, got -1"]),
        ("optimizer.eps=-1", ["optimizer.eps must be >= 0, got -1"]),
        ("optimizer.betas=[2,0.9]", ["optimizer.betas must be < 1, got 2 at index 0"]),
        ("trainer.epochs=0", ["trainer.epochs must be at least 1, got 0"]),
        ("trainer.accumulate=0", ["trainer.accumulate must be at least 1", "trainer/default"]),
        ("data.batch_size=0", ["data.batch_size must be at least 1, got 0"]),
        ("data.limit=99999", ["data.limit", "99999", "1437"]),
        ("data.validation=1437", ["data.validation", "none to train on"]),
        ("schedule.warmup_percent=200", ["schedule", "100 per cent"]),
        ("model.variant=modrn", ["model.variant", "'modern', 1998", "'modrn'"]),
        ("seed=-1", ["seed", "-1"]),
        ("device=cuda:99", ["device", "'cuda:99'", "cpu"]),
        ("device=gpu", ["device", "'gpu'", "cpu"]),
        ("model._target_=torch.nn.Linnear", ["model._target_", "'Linear'"]),
        ("task._target_=torch.nn.Linear", ["task._target_", "is no Task"]),
        # a command, a word, a thing that cannot be read
        ("trian", ["trian", "'train'"]),
        ("resum", ["resum", "'resume'"]),
        ("model.hidden=[", ["model.hidden: [ cannot be read as a value: [ has no ]"]),
        ("model=lenet5,mlp", ["model", "-m"]),
        ("resume", ["resume: give a RUN", "latest", "dltrain resume --help"]),
        ("sample", ["sample: give a RUN", "latest", "dltrain sample --help"]),
        ("--mutlirun", ["--mutlirun", "'--multirun'"]),
        ("--hlep", ["--hlep", "'--help'"]),
    ],
)
def test_one_mistake_is_one_message(
    typed: str,
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = refused([typed], capsys, monkeypatch)
    assert len(lines) == 1
    for words in said:
        assert words in lines[0]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["model=lenet5", "data=line"],
            ["model", "images", "(1,)", "; fits: fusion, linreg, mlp, tabular"],
        ),
        (
            ["model=lstm", "data=ratings", "data.path=u.data"],
            ["model: this needs one input, and this data has user, item; may fit: "],
        ),
        (
            ["model=lenet5", "data=csv", "data.path=a.csv", "data.target=b"],
            ["; may fit: fusion, linreg, logreg, mlp, perceptron, tabular"],
        ),
        (
            ["model=ppo", "data=csv", "data.path=a.csv", "data.target=b"],
            [
                "task: this learns by acting in an environment, as data=gym is, and this",
                "may fit: fusion, ",
            ],
        ),
        (["model=mlp", "data=line", "task=classification"], ["task", "needs classes"]),
        (["task=regression"], ["task", "numbers", "class"]),
        (["trainer.precision=tf32", "device=cpu"], ["trainer", "tf32 is of CUDA devices", "cpu"]),
        (["resume", "nowhere"], ["nowhere", "does not exist"]),
        (["resume", "latest"], ["no run in outputs"]),
        (["resume", "."], ["not a run folder"]),
        (["resume", "latest", "--output-dir", "o"], ["no run in o"]),
        (["resume", "output_dir=o", "latest"], ["no run in o"]),
        (["resume", "latest", "outptu_dir=o"], ["outptu_dir", "'output_dir'"]),
        (["resume", "latest", "seed=3"], ["seed", "goes on with its own", "output_dir=DIR"]),
        (["resume", "one", "other"], ["other: not a key=value"]),
        (["resume", "latest", "--output_dir", "o"], ["--output_dir", "'--output-dir'"]),
        (["resume", "--output-dir"], ["--output-dir", "expected one argument"]),
        (["sample", "--label"], ["sample: --label", "expected one argument"]),
        (["sample", "latest", "--sed", "3"], ["sample: --sed", "'--seed'"]),
        (["sample", "latest", "--sed=3"], ["sample: --sed", "'--seed'"]),
        (["sample", "latest", "--weights", "bets"], ["--weights", "'bets'", "best"]),
        (["sample", "--n", "3", "latest", "output_dir=o"], ["no run in o"]),
        (["help", "resum"], ["resum", "'resume'"]),
        (["help", "modle"], ["modle", "'model'"]),
        (["help", "model=mpl"], ["model=mpl", "'mlp'"]),
        (["--config-dir", "nowhere"], ["nowhere", "no such folder"]),
        (["--config-dir"], ["needs a folder"]),
        (["train", "model"], ["model", "key=value"]),
        (
            ["callbacks=early_stopping", "data.validation=0"],
            ["callbacks.early_stopping", "no validation split"],
        ),
        (["trainer.test_weights=best", "data.validation=0"], ["test_weights", "validation"]),
        (["model=linreg", "model.dropout=1"], ["model.dropout"]),
        (["model=linreg", "regularizer=dropout"], ["model.dropout", "no such argument"]),
        (["task=none"], ["task._target_", "must name a class"]),
    ],
)
def test_what_does_not_fit_together_is_one_message(
    typed: list[str],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = refused(typed, capsys, monkeypatch)
    assert len(lines) == 1
    for words in said:
        assert words in lines[0]


def test_all_mistakes_are_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [
        "modle.dropout=1",
        "optimizer.lr=fast",
        "trainer.epochs=2.5",
        "model.variant=2024",
        "data.batch_size=0",
        "device=cuda:99",
        "+schedule.warmup=3",
    ]
    lines = refused(typed, capsys, monkeypatch)
    for key in ("modle.dropout", "optimizer.lr", "trainer.epochs", "model.variant"):
        assert sum(f"dltrain: {key}:" in line for line in lines) == 1
    assert len(lines) == len(typed)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        # What would be left once the first mistake is mended, and nothing of what it brings.
        (["data=imbd", "model=lstm"], ["data=imbd"]),
        (
            ["data=text_fil", "model=lstm", "data.path=a.txt", "data.tokns=word"],
            ["data=text_fil", "data.tokns"],
        ),
        (["data=xyzzy", "data.path=a.txt", "seeed=1"], ["data=xyzzy", "seeed"]),
        (["data=csv", "data.pth=a.csv", "data.target=y", "model=logreg"], ["data.pth"]),
        (["model=xyzzy", "data=iris", "optimizer.lr=-1"], ["model=xyzzy", "optimizer.lr"]),
        (["-m", "model=mlp,lenet5", "lrr=3"], ["lrr"]),
        (["task.sample_weights=balanced"], ["task.sample_weights"]),
    ],
)
def test_what_follows_from_a_mistake_is_no_mistake(
    typed: list[str],
    keys: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = refused(typed, capsys, monkeypatch)
    assert [line.split()[1].rstrip(":") for line in lines] == keys
    assert "test_weights" not in lines[0]


def test_every_mistake_of_a_sweep_is_told_before_it_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = refused(["-m", "model=lenet,mlp,mpl", "optimizer.rl=1,2"], capsys, monkeypatch)
    assert len(lines) == 3


def test_a_broken_file_of_ones_own_is_no_model_that_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "broken.yaml").write_text("# @package _global_\nmodel: [\n")
    (own / "empty.yaml").write_text("")
    monkeypatch.setattr(sys, "argv", ["dltrain", "--config-dir", "own", "data=moons"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    err = capsys.readouterr().err
    assert "fits: " in err
    assert "broken" not in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["-m", "seed=range(1,1000000000)"], ["seed", "999,999,999 runs", "10,000"]),
        (["-m", "seed=range(5,1)"], ["seed", "range(5,1) has no value"]),
        (["-m", "optimizer.lr=range(0,1,0)"], ["optimizer.lr", "step that is not 0"]),
        (["-m", "seed=1,range(2,4)"], ["seed", "a range stands by itself"]),
        (["hydra.mode=MULTIRUN"], ["hydra.mode", "-m"]),
        (["--hydra-help", "model=-6.0"], ["hydra", "Got float"]),
    ],
)
def test_a_sweep_that_cannot_be_listed_is_refused_at_once(
    typed: list[str],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (line,) = refused(typed, capsys, monkeypatch)
    assert all(part in line for part in said)


def test_a_sweep_may_add_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is checked by the constructor, in each run: here it refuses both values."""
    monkeypatch.setattr(sys, "argv", ["dltrain", "-m", "+optimizer.amsgrad=1,2", "callbacks=none"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert err.count("optimizer.amsgrad: expected true or false") == 2


def test_a_file_of_ones_own_is_named_when_it_is_at_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "configs"
    (own / "optimizer").mkdir(parents=True)
    (own / "optimizer" / "mine.yaml").write_text("# Mine.\n_target_: torch.optim.SGD\nrate: 1\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (line,) = refused(["--config-dir", str(own), "optimizer=mine"], capsys, monkeypatch)
    assert "optimizer.rate" in line
    assert "optimizer/mine.yaml" in line


def test_out_of_memory_says_what_to_lower(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def train_step(self: Classification, *arguments: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.setattr(Classification, "train_step", train_step)
    monkeypatch.setattr(sys, "argv", ["dltrain", "callbacks=none"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "Out of memory" in err
    assert "data.batch_size (now 32" in err
    assert '"status": "failed"' in (latest(Path("outputs")) / "summary.json").read_text()


def test_a_loss_that_is_not_finite_names_step_examples_and_checkpoint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["callbacks=none", "optimizer=sgd", "optimizer.lr=1e9", "data.limit=100"]
    monkeypatch.setattr(sys, "argv", ["dltrain", *typed, "trainer.log_every=7"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "not finite at step" in err
    assert "of the training split" in err
    assert "Lower optimizer.lr" in err
    kept = list((latest(Path("outputs")) / "checkpoints").iterdir())
    assert not kept, "no checkpoint of bad weights"


def test_a_bug_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_step(self: Classification, *arguments: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(Classification, "train_step", train_step)
    monkeypatch.setattr(sys, "argv", ["dltrain", "callbacks=none"])
    with pytest.raises(RuntimeError, match="a bug of ours"):
        cli.main()
    assert '"status": "failed"' in (latest(Path("outputs")) / "summary.json").read_text()


@pytest.mark.parametrize("typed", [["resume"], ["resume", "nowhere"], ["sample", "nowhere"]])
def test_a_run_that_is_not_found_is_answered_by_the_newest_runs(
    typed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 8):
        folder = Path(f"outputs/mlp-digits/2026-01-0{day}_00-00-00")
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        (folder / "summary.json").write_text('{"status": "interrupted"}' if day > 3 else "{")
    monkeypatch.setattr(sys, "argv", ["dltrain", *typed])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    _, title, *rows = capsys.readouterr().err.splitlines()
    assert title == "The newest runs in outputs:"
    assert [row.split() for row in rows] == [
        [f"outputs/mlp-digits/2026-01-0{day}_00-00-00", "interrupted" if day > 3 else "unreadable"]
        for day in (7, 6, 5, 4, 3)
    ]


@pytest.mark.parametrize(
    "line",
    [
        ["--config-dir", "x" * 300],
        ["resume", "x" * 300],
        ["-m", "data=image_folder", f"data.path={'x' * 300}", "seed=1,2", "callbacks=none"],
    ],
)
def test_a_path_that_the_system_refuses_is_one_line(
    line: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dltrain", *line])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == line.count("-m") + 1
    assert all(one.endswith(": File name too long.") for one in told)
