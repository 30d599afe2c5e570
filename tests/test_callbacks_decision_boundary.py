"""The animated decision boundary: what it shows, what it keeps, and what it leaves alone."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.callbacks.decision_boundary import DecisionBoundary
from dltrain.contracts.data import Placement
from dltrain.errors import UserError
from dltrain.reports.boundary import animate_decision_boundary
from dltrain.reports.plane import Plane
from dltrain.runs.finding import latest
from dltrain.runs.load import load
from tests.conftest import Compose, Train
from tests.interrupting import interrupted

GIF = "figures/decision_boundary.gif"
# Four batches an epoch; what is random or has a state in eval and train mode is on.
MOONS = (
    "model=mlp",
    "model.hidden=[8]",
    "model.dropout=0.3",
    "model.batch_norm=true",
    "data=moons",
    "data.examples=120",
    "data.test_examples=50",
    "trainer.epochs=7",
    "trainer.evaluate_every=1",
)
WITH = ("callbacks=[decision_boundary]", "callbacks.decision_boundary.side=12")


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def frames(folder: Path) -> dict[str, Any]:
    states = checkpoint(folder)["callbacks"]
    (found,) = (state for state in states if "frames" in state)
    return found


def test_there_is_a_frame_before_training_and_one_an_evaluation(train: Train) -> None:
    folder = train(*MOONS, *WITH).folder
    state = frames(folder)

    assert state["steps"] == [0, 4, 8, 12, 16, 20, 24, 28]
    assert state["frames"].shape == (8, 12 * 12, 2)
    torch.testing.assert_close(
        state["frames"].float().sum(2), torch.ones(8, 144), atol=1e-3, rtol=0
    )
    assert not torch.equal(state["frames"][0], state["frames"][-1])
    with Image.open(folder / GIF) as moving:
        assert moving.n_frames == 8
        assert moving.info["loop"] == 0


def test_the_last_frame_is_what_the_trained_network_says(
    train: Train, compose: Compose, tmp_path: Path
) -> None:
    folder = train(*MOONS, *WITH).folder
    task = load("latest", output_dir=str(tmp_path / "outputs"))
    with Assembly(compose(*MOONS, "callbacks=none", "device=cpu")) as assembly:
        streams = assembly.read().source.open(Placement(torch.device("cpu"), 0))
        points = next(iter(streams["test"].plain()))["input"]
    with torch.no_grad():
        said = task.forward({"input": Plane.around(points, 12).grid()})["logits"].softmax(1)

    torch.testing.assert_close(frames(folder)["frames"][-1], said.half())


def test_a_run_is_the_same_with_and_without_it(train: Train) -> None:
    plain, watched = train(*MOONS).folder, train(*MOONS, *WITH).folder
    assert plain != watched
    assert (plain / "metrics.csv").read_bytes() == (watched / "metrics.csv").read_bytes()
    one, other = checkpoint(plain), checkpoint(watched)
    for part in ("task", "random", "optimize"):
        assert digest(one[part]) == digest(other[part]), part


def digest(state: Any) -> str:
    """A short word for every number of a state, exactly: states that differ are long to print."""
    return hashlib.sha256(repr(flat(state)).encode()).hexdigest()


def flat(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    return [flat(value) for value in state] if isinstance(state, (list, tuple)) else state


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(3, [0, 4, 8, 12]), (4, [0, 8, 16]), (6, [0, 8, 16, 24]), (7, [0, 16, 28])],
)
def test_frames_are_thinned_out_evenly_and_the_newest_stays(
    epochs: int, steps: list[int], train: Train
) -> None:
    settings = ("callbacks.decision_boundary.most_frames=4", f"trainer.epochs={epochs}")
    state = frames(train(*MOONS, *WITH, *settings).folder)
    assert state["steps"] == steps
    assert len(state["frames"]) == len(steps)


def test_a_resumed_run_ends_with_the_same_image(
    train: Train, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (*MOONS, *WITH, "callbacks.decision_boundary.most_frames=4")
    whole = train(*few).folder
    config = compose("callbacks=none", "device=cpu", *few)
    with interrupted(monkeypatch, DecisionBoundary, 12):
        summary = run.train({**config, "output_dir": str(tmp_path / "cut")})
    assert summary["status"] == "interrupted"
    cut = latest(tmp_path / "cut")
    assert (cut / GIF).read_bytes() != (whole / GIF).read_bytes()
    run.resume("latest", tmp_path / "cut")

    assert (cut / GIF).read_bytes() == (whole / GIF).read_bytes()
    assert digest(frames(cut)) == digest(frames(whole))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("data=digits", "model=mlp"), "inputs of 1x8x8 and classes"),
        (("data=line", "model=linreg"), "inputs of 1 and numbers"),
        (("data=iris", "model=mlp"), "inputs of 4 and classes"),
    ],
)
def test_data_without_a_plane_are_refused_before_there_is_a_folder(
    overrides: tuple[str, ...], told: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        train(*WITH, *overrides)
    assert not (tmp_path / "outputs").exists()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        DecisionBoundary(side=1)
    with pytest.raises(ValueError, match="at least 2"):
        DecisionBoundary(most_frames=1)


def test_a_frame_has_the_colors_of_its_classes() -> None:
    """Left half of the plane the first class, right half the second, and the reverse."""
    plane = Plane(0, 1, 0, 1, 10)
    right = (plane.grid()[:, 0] > 0.5).float().numpy()
    there = np.stack((1 - right, right), axis=1)
    points, targets = np.zeros((1, 2)), np.zeros(1)
    moving = animate_decision_boundary(
        plane, [there, there[:, ::-1]], ["there", "back"], points, targets, ["a", "b"], ["x", "y"]
    )
    with Image.open(io.BytesIO(moving)) as image:
        shown = []
        for frame in range(2):
            image.seek(frame)
            pixels = np.asarray(image.convert("RGB")).astype(int)
            height, width, _ = pixels.shape
            # Blue outweighs red on the first class's side.
            shown.append(
                [
                    pixels[height // 2 + 9, int(width * x), 2]
                    > pixels[height // 2 + 9, int(width * x), 0]
                    for x in (0.25, 0.65)
                ]
            )
    assert shown == [[True, False], [False, True]]
