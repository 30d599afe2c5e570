"""Samples through a run: which are kept, what is written, and what is left alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dltrain import training as run
from dltrain.callbacks.samples import Samples
from dltrain.reports.samples import (
    animate_samples,
    sheet,
    single,
    to_bytes,
)
from dltrain.runs.load import load
from tests.conftest import Train
from tests.interrupting import interrupted
from tests.making import PACKAGE, Maker, image_spec, trained

# 11 steps an epoch; what is learned, the brightness, shows in the samples.
SETTINGS = (
    "callbacks=[samples]",
    "callbacks.samples.count=12",
    "callbacks.samples.interpolations=2",
    "trainer.epochs=5",
    "trainer.evaluate_every=1",
    "optimizer.lr=0.1",
)
GIF = "figures/samples.gif"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", PACKAGE)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def frames(folder: Path) -> dict[str, Any]:
    (found,) = (state for state in checkpoint(folder)["callbacks"] if "frames" in state)
    return found


def decoded(png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def test_the_same_noise_before_training_and_at_every_evaluation(tmp_path: Path) -> None:
    folder = trained(tmp_path, *SETTINGS, brightness=0.1)
    state = frames(folder)
    task = load(folder)
    assert isinstance(task, Maker)

    assert state["steps"] == [0, 11, 22, 33, 44, 55]
    assert state["frames"].dtype == torch.uint8
    assert state["frames"].shape == (6, 12, 8, 8, 1)
    brightness = state["frames"].float().mean((1, 2, 3, 4))
    assert (brightness[-1] > 5 * brightness[0]).item()
    last = to_bytes(task.sample(12, 0).columns["image"])
    np.testing.assert_array_equal(state["frames"][-1], last)
    # The files show them.
    assert (folder / "figures" / "samples.png").read_bytes() == sheet(last)
    between = sheet(to_bytes(task.interpolate(2, 10, 0).columns["image"]), 10)
    assert (folder / "figures" / "interpolation.png").read_bytes() == between
    with Image.open(folder / GIF) as moving:
        assert moving.n_frames == 6
        assert moving.info["loop"] == 0


def test_tensorboard_has_the_sheets_as_they_came(tmp_path: Path) -> None:
    settings = [line for line in SETTINGS if not line.startswith("callbacks=")]
    folder = trained(tmp_path, "callbacks=[tensorboard,samples]", *settings, brightness=0.1)
    events = EventAccumulator(str(folder), {"images": 0}).Reload()

    images = {tag: events.Images(tag) for tag in ("samples", "interpolation")}
    assert [image.step for image in images["samples"]] == [11, 22, 33, 44, 55]
    for number, image in enumerate(images["samples"], 1):
        assert image.encoded_image_string == sheet(frames(folder)["frames"][number].numpy())
    assert [image.step for image in images["interpolation"]] == [55]


def test_a_run_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    with_it = trained(tmp_path / "with", *SETTINGS, brightness=0.1)
    plain = [line for line in SETTINGS if "callbacks" not in line]
    without = trained(tmp_path / "without", *plain, brightness=0.1)

    assert (with_it / "metrics.csv").read_bytes() == (without / "metrics.csv").read_bytes()
    one, other = checkpoint(with_it), checkpoint(without)
    torch.testing.assert_close(one["task"], other["task"], rtol=0, atol=0)
    torch.testing.assert_close(one["random"]["torch"], other["random"]["torch"])


def test_a_resumed_run_ends_with_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (*SETTINGS, "callbacks.samples.most_frames=4")
    whole = trained(tmp_path / "whole", *few, brightness=0.1)
    with interrupted(monkeypatch, Samples, 33):
        cut = trained(tmp_path / "cut", *few, brightness=0.1)
    half = {file.name: file.read_bytes() for file in (cut / "figures").iterdir()}
    run.resume(str(cut), tmp_path)

    assert set(half) == {"samples.png", "samples.gif", "interpolation.png"}
    for name, earlier in half.items():
        ended = (cut / "figures" / name).read_bytes()
        assert ended == (whole / "figures" / name).read_bytes()
        assert ended != earlier
    assert frames(cut)["steps"] == frames(whole)["steps"] == [0, 22, 44, 55]


def test_a_task_that_makes_no_images_is_told_and_trained(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("callbacks=[samples]", "model=mlp", "data=digits", "trainer.steps=2").folder

    assert "note: callbacks.samples shows nothing" in capsys.readouterr().out
    assert not (folder / GIF).exists()


def test_impossible_settings_are_refused() -> None:
    spec = image_spec((1, 8, 8), "ab")
    for name, wrong in (("count", 0), ("seed", -1), ("interpolations", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least .*, got {wrong}"):
            Samples(spec, **{name: wrong})
    with pytest.raises(ValueError, match="most_frames is at least 2"):
        Samples(spec, most_frames=1)


def test_a_sheet_has_every_image_in_its_place() -> None:
    """Seven gray images, each darker than the one before, in three columns."""
    shades = np.linspace(1, 0.1, 7)
    values = decoded(sheet(to_bytes(np.broadcast_to(shades[:, None, None, None], (7, 1, 8, 8)))))

    height, width = values.shape[:2]
    seen = [
        values[int(height * (row + 0.5) / 3), int(width * (column + 0.5) / 3), 0] / 255
        for row in range(3)
        for column in range(3)
    ]
    np.testing.assert_allclose(seen[:7], shades, atol=1 / 255)
    assert seen[7:] == [1, 1]


def test_one_image_is_kept_pixel_for_pixel_in_its_colors() -> None:
    colors = np.random.default_rng(0).random((2, 3, 5, 4))
    for image, expected in zip(to_bytes(colors), colors, strict=True):
        found = decoded(single(image))
        assert found.shape == (5, 4, 3)
        np.testing.assert_allclose(found / 255, expected.transpose(1, 2, 0), atol=0.5 / 255)


def test_a_moving_sheet_shows_each_frame_below_its_line() -> None:
    dark, light = (np.full((4, 8, 8, 1), value, np.uint8) for value in (0, 200))
    with Image.open(io.BytesIO(animate_samples([dark, light], ["a", "b"]))) as moving:
        shown = []
        for number in range(moving.n_frames):
            moving.seek(number)
            shown.append(np.asarray(moving.convert("L")).astype(int))
    height, width = shown[0].shape
    assert [frame[height // 3, width // 4] for frame in shown] == [0, 200]
    assert not np.array_equal(shown[0][:20], shown[1][:20])
