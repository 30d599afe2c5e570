"""The commands as a user types them: exit codes, what is printed, what is imported."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
import warnings
from importlib.resources import files
from pathlib import Path

import pytest

from dltrain.cli import dispatch, main
from dltrain.commands.help import GROUPS
from dltrain.commands.table import COMMANDS, MEANT, MOST_LETTERS
from dltrain.config.compose import choices
from dltrain.errors import UserError
from dltrain.runs.finding import latest
from tests.conftest import Cli

HEAVY = {"torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "rich"}
HEAVY |= {"tensorboard", "datasets", "tokenizers"}
"""Of what we depend on, all that a query does without."""
QUICK = ("callbacks=none", "trainer.steps=20", "data.limit=200", "device=cpu")


def test_the_run_folder_is_printed_first_and_last_and_nothing_else_is_written(
    cli: Cli, tmp_path: Path
) -> None:
    done = cli(*QUICK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    folder = latest(tmp_path / "outputs").relative_to(tmp_path)
    assert lines[0] == lines[-1] == f"Run {folder}"
    assert "61,706" in done.stdout
    assert "\x1b" not in done.stdout, "no escape codes in a pipe"
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert sorted(p.name for p in (tmp_path / "outputs").iterdir()) == ["latest", "lenet5-digits"]


def test_a_terminal_gets_a_bar_and_still_the_lines(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dltrain", *QUICK],
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 1 << 16):
            shown += chunk
    except OSError:  # the other end is closed: that is how a terminal says end of file
        pass
    assert process.wait() == 0
    text = shown.decode()
    assert "epoch 1/" in text
    assert "validation loss" in text


def test_an_interruption_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dltrain", "callbacks=none", "trainer.epochs=100000"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    folder = latest(tmp_path / "outputs").relative_to(tmp_path)
    assert f"Go on with: dltrain resume {folder}" in out
    assert json.loads((tmp_path / folder / "summary.json").read_text())["status"] == "interrupted"
    assert (tmp_path / folder / "checkpoints" / "last.pt").is_file()


def test_a_terminal_that_closes_ends_a_run_in_order(tmp_path: Path) -> None:
    """As tmux kill-pane does it: SIGHUP, and nobody to write to any more."""
    master, slave = pty.openpty()

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "dltrain", "callbacks=none", "trainer.epochs=100000"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(slave)
    shown = b""
    while b"epoch 2" not in shown:
        shown += os.read(master, 1 << 16)
    os.close(master)
    assert process.wait(timeout=300) == 128 + signal.SIGHUP
    folder = latest(tmp_path / "outputs")
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert (folder / "checkpoints" / "last.pt").is_file()
    assert "Go on with: dltrain resume" in (folder / "train.log").read_text()


def test_runs_that_begin_at_once_get_a_folder_each(tmp_path: Path) -> None:
    """Folders are named by the second; here processes make twenty each, in no time."""
    program = (
        "from pathlib import Path; from dltrain.runs.folder import RunFolder\n"
        "for _ in range(20):\n"
        "    run = RunFolder.create(Path('outputs'), 'run')\n"
        "    run.publish(Path('outputs'))\n"
        "    print(run.path)\n"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    printed = [maker.communicate(timeout=300)[0].splitlines() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    folders = {line for lines in printed for line in lines}
    assert len(folders) == sum(map(len, printed)) == 60
    assert {path.name for path in (tmp_path / "outputs" / "run").iterdir()} == {
        Path(folder).name for folder in folders
    }


@pytest.mark.parametrize("query", ["--help", "help", "--version", "--cfg", "completion"])
def test_what_needs_no_torch_is_quick(tmp_path: Path, query: str) -> None:
    """0.5 s is what a user feels; what is imported tells it on a busy machine, too."""
    typed = {"--cfg": "--cfg job", "completion": "-sc query=bash", "help": "help model=mlp"}
    arguments = typed.get(query, query).split()
    program = (
        "import sys, atexit\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "atexit.register(lambda: print(*[n for n in heavy if n in sys.modules], file=sys.stderr))\n"
        "from dltrain.cli import main\n"
        "main()\n"
    )
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=1) > 0.5:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={**os.environ, "COMP_LINE": "dltrain model=le", "COMP_POINT": "16"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0
        assert done.stderr.strip() == "", "more is imported than such a query needs"
        assert done.stdout
    if min(seconds) > 0.5:
        warnings.warn(f"slow: {query} takes {min(seconds):.2f} s", stacklevel=1)
    assert list(tmp_path.iterdir()) == []


def columns(page: str) -> int:
    return max(map(len, page.splitlines()))


def test_help_fits_one_screen_and_names_every_group(cli: Cli) -> None:
    page = cli("--help").stdout
    assert len(page.splitlines()) <= 24
    assert columns(page) <= 80
    for group in files("dltrain.configs").iterdir():
        if group.is_dir() and not group.name.startswith("_"):
            assert f"  {group.name} " in page


@pytest.mark.parametrize("group", [*GROUPS, "data/augment"])
def test_help_on_a_group_has_a_line_for_each_choice(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["help", group]) == 0
    page = capsys.readouterr().out
    names = [file.name for file in files("dltrain.configs").joinpath(group).iterdir()]
    choices = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    rows = [line for line in page.splitlines() if line.startswith("  ")]
    assert [row.split()[0] for row in rows] == choices
    column = 4 + max(map(len, choices))
    assert all(row[column - 1] == " " and row[column] != " " for row in rows), "one column"
    assert columns(page) <= 80


@pytest.mark.parametrize("group", [*GROUPS, "data/augment", "task/loss", "task/attack"])
def test_help_on_a_choice_explains_every_key(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each key of the file, with a type where a constructor takes it."""
    names = list(choices(group))
    assert dispatch(["help", f"{group}={','.join(names)}"]) == 0
    page = capsys.readouterr().out
    assert columns(page) <= 80
    assert all(re.search(rf"^{group}={re.escape(name)}( |$)", page, re.MULTILINE) for name in names)
    for key in re.findall(r"^  (\S+?)=(?!.*\()", page, re.MULTILINE):
        # A key of another group's choice has one only with such a choice.
        assert not key.startswith(f"{group.replace('/', '.')}."), f"{key} has no type"


def test_help_on_a_choice_has_type_default_and_comment(typed: Cli) -> None:
    page = typed("--help", "model=mlp").stdout
    assert page.startswith("model=mlp  (dltrain.models.mlp.MLP)\nThe multi-layer perceptron")
    assert "  model.hidden=[256, 128]  (a list of integers)\n      units of each" in page
    assert "  model.init=default  (one of 'default', 'zeros'," in page
    assert typed("help", "model=mlp").stdout == page == typed("model=mlp", "--help").stdout
    hub = typed("help", "data=hub").stdout
    assert "  data.path=  (must be given: text)\n      " in hub
    assert "  data.fit=crop  (one of 'crop', 'pad', 'stretch')" in hub, "of the file it builds on"
    recipe = typed("help", "experiment=mlp_mnist_best").stdout
    assert "Chooses model=mlp data=mnist optimizer=adamw" in recipe


def test_help_knows_a_folder_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine_with_a_long_name.yaml").write_text(
        "# Mine.\n_target_: mynets.Net\nwidth: 5  # units\n"
    )
    (tmp_path / "mynets.py").write_text(
        "raise RuntimeError('help imports nothing')\n"
        "class Net:\n    def __init__(self, width: int) -> None: ...\n"
    )
    listed = cli("--config-dir", "own", "--help", "model").stdout
    assert "  mine_with_a_long_name  Mine.\n" in listed
    assert columns(listed) <= 80
    page = cli("help", "--config-dir=own", "model=mine_with_a_long_name").stdout
    assert "  model.width=5  (an integer)\n      units\n" in page


def test_help_lists_every_command_and_each_has_its_own(typed: Cli) -> None:
    page = typed("help").stdout
    for name, command in COMMANDS.items():
        assert re.search(rf"  {name} +{re.escape(command.summary)}(  |$)", page, re.MULTILINE)
        assert len(command.summary) <= MOST_LETTERS, f"{name}: the page has two columns"
    for name in ("resume", "sample"):
        own = typed(name, "--help")
        assert (own.returncode, own.stderr) == (0, "")
        assert f"usage: dltrain {name} RUN" in own.stdout
        assert "--output-dir DIR" in own.stdout
        assert own.stdout == typed("help", name).stdout
    assert typed("train", "--help").stdout == page == typed("--help").stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("train", "help")])
def test_every_command_has_two_examples_in_its_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = dispatch([name, "--help"])
    except SystemExit as end:  # as argparse ends
        code = end.code
    page = capsys.readouterr().out
    assert code == 0
    examples = page.partition("examples:\n")[2].splitlines()
    assert sum(line.startswith(f"  dltrain {name} ") for line in examples) >= 2
    assert columns(page) <= 80


def test_what_others_call_a_command_is_told() -> None:
    assert set(MEANT).isdisjoint(COMMANDS)
    assert {name.partition(" ")[0] for name in MEANT.values()} <= set(COMMANDS)
    with pytest.raises(UserError, match=r"no such command\. It is dltrain evaluate\."):
        dispatch(["test", "latest"])


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("dltrain.assemble.Assembly.read", "Interrupted before the run began."),
        ("dltrain.training.Run.go", "Interrupted. Go on with: dltrain resume "),
    ],
)
def test_an_interruption_says_whether_the_run_had_begun(
    place: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    monkeypatch.setattr(sys, "argv", ["dltrain", *QUICK])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    message = capsys.readouterr().err
    assert message.startswith(said)
    began = (tmp_path / "outputs").exists()
    assert began == ("resume" in message)
    if began:
        folder = message.split()[-1]
        assert (tmp_path / folder / "summary.json").is_file()


def test_an_interruption_of_another_command_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dltrain.commands.sample.find_run", interrupted)
    monkeypatch.setattr(sys, "argv", ["dltrain", "sample", "latest"])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (130, "Interrupted.\n")


def test_completion_knows_groups_choices_and_keys(cli: Cli) -> None:
    def complete(line: str) -> set[str]:
        point = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
        return set(cli("-sc", "query=bash", env=point).stdout.split())

    assert complete("dltrain model=le") == {"model=lenet5"}
    assert "optimizer.lr=" in complete("dltrain optimizer.l")


def test_a_multirun_reports_failures_at_once_and_means_over_seeds(
    typed: Cli, tmp_path: Path
) -> None:
    quick = ("data=iris", "callbacks=none", "trainer.steps=2", "device=cpu")
    done = typed("model=mlp,logreg", "-m", "seed=1,2", "optimizer.lr=0.001,oops", *quick)
    assert done.returncode == 2
    assert done.stderr.count("optimizer.lr: expected a number, got 'oops'") == 4
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rows = (sweep / "results.csv").read_text().splitlines()
    assert sum(",test,accuracy," in row for row in rows) == 4
    assert sum(",validation,accuracy," in row for row in rows) == 4
    assert sum(",failed," in row for row in rows) == 4
    assert len(list((tmp_path / "outputs" / "mlp-iris").iterdir())) == 2
    # A table to choose from shows the validation split, never the test split.
    table = done.stdout.partition("Validation split, mean ± standard deviation")[2]
    assert table.count(" ± ") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_folder_of_ones_own_wins_and_adds(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mlp.yaml").write_text(
        "# Mine.\n_target_: dltrain.models.mlp.MLP\nhidden: [7]\n"
    )
    (own / "model" / "mine.yaml").write_text("# Mine.\n_target_: mynets.Net\nwidth: 5\n")
    (tmp_path / "mynets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, outputs))\n"
    )
    composed = cli("--config-dir", "own", "model=mlp", "--cfg", "job").stdout
    assert "hidden:\n  - 7\n" in composed
    done = cli("--config-dir", "own", "model=mine", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "mine-digits" in done.stdout


def test_nothing_half_written_is_read_while_a_run_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dltrain", "callbacks=none", "trainer.epochs=100000"),
            "trainer.checkpoint_seconds=0",
        ],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    import torch

    try:
        while not list(tmp_path.glob("outputs/*/*/checkpoints/last.pt")):
            assert process.poll() is None
            time.sleep(0.01)
        folder = latest(tmp_path / "outputs")
        for _ in range(50):
            assert json.loads((folder / "summary.json").read_text())["status"] == "running"
            torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    finally:
        process.kill()
        process.wait()
