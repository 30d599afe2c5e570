"""The learning rate range test: the rate rises, the loss is followed, a rate is suggested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dltrain import cli
from dltrain.errors import UserError
from dltrain.tuning.batch_size import largest
from dltrain.tuning.range_test import RangeTest, Rising, Watching

RATES = np.geomspace(1e-6, 1e2, 161)


def falling(steepest: float, least: float) -> RangeTest:
    """A loss of 2 that falls to 1 around ``steepest``, and rises without end from ``least``."""
    fall = 1 / (1 + (RATES / steepest) ** -2)
    return RangeTest(list(RATES), list(2 - fall + (RATES / least / 10) ** 3), diverged=True)


def test_the_steepest_descent_is_found_without_lag() -> None:
    found = falling(1e-3, 0.1)
    assert found.steepest is not None
    assert found.rates[found.steepest] == pytest.approx(1e-3, rel=0.1)
    assert 0.03 < found.rates[found.least] < 0.3


def test_of_a_loss_that_never_falls_nothing_is_said() -> None:
    assert RangeTest([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], diverged=False).steepest is None
    assert RangeTest([1.0, 2.0, 4.0], [0.0, 1.0, 2.0], diverged=True).steepest is None


def test_the_rate_rises_by_one_factor_from_the_first_to_the_last() -> None:
    rising = Rising(first=1e-3, last=10.0, total_steps=5, steps_per_epoch=2)
    assert [rising(step) for step in range(5)] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 10.0])


class View:
    reason = ""

    def stop(self, reason: str) -> None:
        self.reason = reason


def test_a_loss_that_diverges_ends_the_run_and_noise_does_not() -> None:
    for losses, stopped in (([2.0] * 12 + [90.0] * 9, True), ([2.0, 3.0, 1.0] * 30, False)):
        watching, view = Watching(), View()
        for loss in losses:
            watching.log(view, {"loss": loss, "learning_rate": 0.1})  # type: ignore[arg-type]
        assert bool(view.reason) == watching.diverged == stopped
    with pytest.raises(UserError, match="several or another: loss_generator"):
        Watching().log(View(), {"loss_generator": 1.0})  # type: ignore[arg-type]


def test_the_command_leaves_a_figure_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ("data=iris", "model=mlp", "device=cpu", "schedule.warmup_steps=9", "trainer.epochs=1")
    asked = ("--min", "1e-4", "--max", "0.1", "--steps", "40", "--json", "--out", "a/b.png")
    assert cli.dispatch(["lr-find", *base, *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rates"][0], found["rates"][-1]) == pytest.approx((1e-4, 0.1))
    assert len(found["rates"]) == len(found["losses"]) == 40
    rate = found["suggested"]["steepest descent"]
    assert found["command"] == f"dltrain {' '.join(base)} optimizer.lr={float(f'{rate:.2g}')!r}"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b.png"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--min", "2", "--max", "1"], "0 < min < max"),
        (["--steps", "3"], "--steps must be at least 20"),
        (["optimizer.lr=0"], "set it above 0"),
        (["--out"], "--out: expected one argument"),
    ],
)
def test_what_makes_no_test_is_refused(more: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        cli.dispatch(["lr-find", "data=iris", "model=mlp", *more])


@pytest.mark.parametrize("most_that_fits", [1, 7, 8, 100, 1000, 5000])
def test_the_largest_batch_is_found_to_an_eighth(most_that_fits: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= most_that_fits

    found = largest(fits, 32, 1000)
    assert found is not None
    assert min(most_that_fits, 1000) * 8 / 9 - 1 <= found <= most_that_fits
    assert len(tried) == len({*tried}) < 12
    assert largest(lambda size: False, 32, 1000) is None


def test_batch_find_tells_what_is_missing() -> None:
    with pytest.raises(UserError, match="device: expected text, got null"):
        cli.dispatch(["batch-find", "~device"])


def test_batch_find_needs_cuda() -> None:
    with pytest.raises(UserError, match="memory of a CUDA device; this is cpu"):
        cli.dispatch(["batch-find", "device=cpu"])


def test_batch_find_ends_with_a_command_or_says_that_nothing_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does around the device, of which there is none here."""
    most = 100

    def peak(config: object, size: int, device: object) -> tuple[int | None, int]:
        return (size << 20 if size <= most else None), 1000

    monkeypatch.setattr("dltrain.tuning.batch_size.peak_memory", peak)
    monkeypatch.setattr("dltrain.tuning.batch_size.require_cuda", lambda config: "cuda:0")
    assert cli.dispatch(["batch-find", "data=iris", "model=mlp"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "too much" in "".join(said)
    assert said[-1].startswith("dltrain data=iris model=mlp data.batch_size=")
    most = 0
    with pytest.raises(UserError, match="not one example fits"):
        cli.dispatch(["batch-find", "data=iris", "model=mlp"])


def test_the_result_is_printed_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "dltrain.tuning.range_test.range_test", lambda *arguments: falling(1e-3, 0.1)
    )
    figure = tmp_path / "a.png"
    assert cli.dispatch(["lr-find", "data=iris", "model=mlp", "--out", str(figure)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"Figure {figure}" in said
    assert any("steepest descent" in line for line in said)
    assert said[-1].startswith("dltrain data=iris model=mlp optimizer.lr=")
    assert figure.stat().st_size > 1000
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out: .* cannot be written"):
        cli.dispatch(["lr-find", "data=iris", "--out", str(tmp_path / "file" / "a.png")])
    flat = RangeTest([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], diverged=False)
    monkeypatch.setattr("dltrain.tuning.range_test.range_test", lambda *arguments: flat)
    with pytest.raises(UserError, match=r"fell at no rate from 1\.0e\+00 to 4\.0e\+00"):
        cli.dispatch(["lr-find", "data=iris", "--out", str(figure)])
