"""``dltrain sample``: which images, where, and what is said when it cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dltrain import cli
from dltrain.errors import UserError
from dltrain.runs.load import load
from tests.conftest import REPOSITORY, Cli, Train
from tests.making import PACKAGE, Maker, edit, trained

Sample = Callable[..., Path]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network takes no labels."""
    return trained(tmp_path_factory.mktemp("plain"), "trainer.steps=1")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("conditional"), "trainer.steps=1", conditional=True)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", PACKAGE)


@pytest.fixture
def sample(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sample:
    """``sample(RUN, …)``: what the command says it has written."""

    def asked(*arguments: str | Path) -> Path:
        assert cli.dispatch(["sample", *map(str, arguments)]) == 0
        return Path(capsys.readouterr().out.strip().rpartition(" in ")[2])

    return asked


def refused(arguments: Sequence[str | Path]) -> str:
    with pytest.raises(UserError) as caught:
        cli.dispatch(["sample", *map(str, arguments)])
    return str(caught.value)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def made(folder: Path, count: int, seed: int, label: int | None = None) -> NDArray[np.uint8]:
    """The images (count, 8, 8) that the run's own task makes."""
    task = load(folder)
    assert isinstance(task, Maker)
    labels = None if label is None else torch.full((count,), label)
    images = task.sample(count, seed, labels).columns["image"][:, 0]
    return (images * 255).round().to(torch.uint8).numpy()


def test_a_sheet_in_the_run_folder_by_default(plain: Path, sample: Sample) -> None:
    path = sample(plain)

    assert path.parent.resolve() == plain / "samples"
    values = pixels(path)
    # Eight rows of eight, each pixel of the 8x8 digits a square of seven, gaps between.
    assert values.shape[0] == values.shape[1]
    assert values.shape[0] >= 8 * 8 * 7
    first = values[3:56:7, 3:56:7, 0]
    np.testing.assert_array_equal(first, made(plain, 64, 0)[0])


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(
    plain: Path, sample: Sample, tmp_path: Path
) -> None:
    one, two, other = (
        sample(plain, "--n", 9, "--seed", seed, "--out", tmp_path / f"{name}.png").read_bytes()
        for name, seed in (("one", 3), ("two", 3), ("other", 4))
    )

    assert one == two
    assert one != other


def test_the_best_weights_when_asked(plain: Path, sample: Sample, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plain, folder)
    best = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)
    for value in best["task"].values():
        value.zero_()
    torch.save(best, folder / "checkpoints" / "best.pt")

    last, other = sample(folder), sample(folder, "--weights", "best")

    assert other.name == "n64_seed0_best.png"
    assert last.read_bytes() == sample(plain).read_bytes()
    assert other.read_bytes() != last.read_bytes()


def test_each_image_in_a_file_of_its_own_pixel_for_pixel(plain: Path, sample: Sample) -> None:
    folder = sample(plain, "--n", 12, "--seed", 5, "--each")

    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{number:02}.png" for number in range(12)]
    np.testing.assert_array_equal(np.stack([pixels(f) for f in files]), made(plain, 12, 5))


@pytest.mark.parametrize("label", ["7", "seven"])
def test_a_class_by_its_name_or_its_number(
    label: str, conditional: Path, sample: Sample, tmp_path: Path
) -> None:
    spec, listed = conditional / "data.json", conditional / "checksums.sha256"
    before = spec.read_text(), listed.read_text()
    edit(conditional, "data.json", before[0].replace('"7"', '"seven"'))
    try:
        folder = sample(conditional, "--n", 5, "--label", label, "--each", "--out", tmp_path / "x")
    finally:
        spec.write_text(before[0])
        listed.write_text(before[1])

    found = np.stack([pixels(file) for file in sorted(folder.iterdir())])
    np.testing.assert_array_equal(found, made(conditional, 5, 0, label=7))


def test_classes_in_turn_have_a_column_each(conditional: Path, sample: Sample) -> None:
    values = pixels(sample(conditional, "--n", 20))

    height, width = values.shape[:2]
    assert (height < 3 * 56, width >= 10 * 56) == (True, True)


def test_rows_between_two_latent_points(plain: Path, sample: Sample, tmp_path: Path) -> None:
    folder = sample(plain, "--interpolate", 3, "--each", "--out", tmp_path / "ways")
    task = load(plain)
    assert isinstance(task, Maker)
    ways = task.interpolate(3, 10, 0).columns["image"]
    expected = (ways[:, 0] * 255).round().to(torch.uint8).numpy()

    found = np.stack([pixels(file) for file in sorted(folder.iterdir())])
    np.testing.assert_array_equal(found, expected)
    sheet = pixels(sample(plain, "--interpolate", 3))
    assert (sheet.shape[0] < 4 * 56, sheet.shape[1] >= 10 * 56) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "RUN"),
        (["--n", "0"], "--n is from 1 to 10,000, got 0"),
        (["--n", "many"], "invalid int value: 'many'"),
        (["--interpolate", "0"], "--interpolate is from 1"),
        (["--interpolate", "2", "--n", "3"], "neither --n nor --label"),
        (["--seed", "-1"], "--seed is from 0"),
        (["--lable", "3"], "--lable"),
        (["--label", "3"], "trained without labels"),
        (["--each", "--out", "some.png"], "--each needs a folder"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    arguments: list[str], told: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where there are no runs to list
    message = refused([plain, *arguments] if arguments else [])

    assert told in message
    assert "\n" not in message
    assert not (plain / "some.png").exists()


@pytest.mark.parametrize("label", ["10", "-1", "eight"])
def test_a_class_that_there_is_not(label: str, conditional: Path) -> None:
    message = refused([conditional, f"--label={label}"])

    assert f"--label {label}: there is no such class" in message
    assert "\n" not in message


def test_a_run_that_makes_no_images_or_is_not_there(train: Train, tmp_path: Path) -> None:
    folder = train("model=linreg", "data=line", "trainer.steps=1").folder

    assert "generates no images: its task is Regression" in refused([folder])
    assert "does not exist" in refused([tmp_path / "nowhere"])
    assert "There is no run" in refused(["latest", f"output_dir={tmp_path / 'none'}"])


def test_a_place_that_cannot_be_written(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    message = refused([plain, "--out", tmp_path / "file" / "sheet.png"])
    assert "--out" in message
    assert "cannot be written" in message


def test_the_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.dispatch(["sample", "--help"])

    assert left.value.code == 0
    page = capsys.readouterr().out
    for option in (
        "RUN",
        "--n",
        "--label",
        "--seed",
        "--each",
        "--interpolate",
        "--weights",
        "--out",
        "--output-dir",
    ):
        assert option in page


def test_the_command_itself(plain: Path, typed: Cli) -> None:
    latest = plain.parents[1]
    done = typed("sample", "latest", f"output_dir={latest}", "--n", "4", cwd=REPOSITORY)
    same = typed("sample", "--n", "4", "--output-dir", str(latest), "latest", cwd=REPOSITORY)
    wrong = typed("sample", str(plain), "--n", "0", cwd=REPOSITORY)

    assert done.returncode == 0, done.stderr
    assert "4 images in " in done.stdout
    assert (same.returncode, same.stdout) == (0, done.stdout)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
