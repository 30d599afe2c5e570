"""Schedules: the multipliers that a pencil gives, at the start, the end and the bends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dltrain.contracts.run import Schedule
from dltrain.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Step,
)

RUN = {"total_steps": 100, "steps_per_epoch": 10}
ALL = [Constant, Linear, Cosine, Exponential, Step, OneCycle, InverseSqrt]


def at(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule(step) for step in steps]


def test_constant_stays() -> None:
    assert at(Constant(**RUN), 0, 1, 50, 99) == [1, 1, 1, 1]


def test_the_inverse_root_falls_by_half_in_four_times_the_warm_up() -> None:
    made = InverseSqrt(warmup_steps=10, **RUN)

    assert at(made, 0, 4, 9, 10, 40, 90) == pytest.approx([0.1, 0.5, 1, 1, 0.5, 1 / 3])


def test_linear_goes_down_evenly() -> None:
    assert at(Linear(**RUN), 0, 1, 50, 99) == pytest.approx([1, 0.99, 0.5, 0.01])
    assert at(Linear(end=0.2, **RUN), 0, 50, 75) == pytest.approx([1, 0.6, 0.4])


def test_cosine_is_half_a_cosine() -> None:
    quarter = (1 + math.sqrt(0.5)) / 2

    expected = [1, quarter, 0.5, 1 - quarter]
    assert at(Cosine(**RUN), 0, 25, 50, 75) == pytest.approx(expected)
    assert Cosine(**RUN)(99) == pytest.approx(0, abs=3e-4)
    assert at(Cosine(end=0.1, **RUN), 0, 50) == pytest.approx([1, 0.55])


def test_exponential_multiplies_once_an_epoch_and_smoothly_within_it() -> None:
    schedule = Exponential(gamma=0.5, **RUN)

    assert at(schedule, 0, 5, 10, 20, 99) == pytest.approx([1, 0.5**0.5, 0.5, 0.25, 0.5**9.9])


def test_step_multiplies_all_at_once() -> None:
    schedule = Step(every_epochs=3, gamma=0.1, **RUN)

    assert at(schedule, 0, 29, 30, 59, 60, 99) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(("every", "steps"), [(0.1, 1), (0.2, 2), (0.3, 3), (1, 10), (2.2, 22)])
def test_step_falls_on_the_very_step_whatever_the_fractions(every: float, steps: int) -> None:
    for total in (97, 100, 300):
        schedule = Step(every_epochs=every, gamma=0.9, total_steps=total, steps_per_epoch=10)
        for step in range(total):
            assert schedule(step) == 0.9 ** (step // steps), (total, step)


def test_onecycle_goes_up_and_down_on_half_cosines() -> None:
    schedule = OneCycle(start=0.04, peak=0.3, end=0.001, **RUN)

    expected = [0.04, 0.52, 1, 0.5005]
    assert at(schedule, 0, 15, 30, 65) == pytest.approx(expected)
    assert schedule(99) == pytest.approx(0.001, abs=1e-3)
    values = at(schedule, *range(100))
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [
        ({"warmup_steps": 10}, 10),
        ({"warmup_epochs": 2}, 20),
        ({"warmup_epochs": 0.5}, 5),
        ({"warmup_percent": 20}, 20),
        ({"warmup_percent": 7.4}, 7),
    ],
)
def test_warm_up_rises_evenly_to_one_and_hands_over_the_whole_shape(
    warmup: dict[str, float], steps: int
) -> None:
    schedule = Linear(**RUN, **warmup)
    rest = 100 - steps

    rise = at(schedule, *range(steps))
    assert rise == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert schedule(steps) == 1
    assert schedule(steps + rest // 2) == pytest.approx(1 - (rest // 2) / rest)
    assert schedule(99) == pytest.approx(1 / rest)


def test_epochs_are_counted_from_the_end_of_the_warm_up() -> None:
    assert Exponential(gamma=0.5, **RUN, warmup_steps=15)(25) == pytest.approx(0.5)
    schedule = Step(every_epochs=3, gamma=0.1, **RUN, warmup_epochs=1)
    assert at(schedule, 10, 39, 40) == pytest.approx([1, 1, 0.1])


@pytest.mark.parametrize("schedule", ALL)
def test_no_multiplier_ever_leaves_zero_to_one(schedule: type[Schedule]) -> None:
    for total in (1, 2, 5, 100):
        for warmup in (0, 1, 5, 7, 500):
            made = schedule(total_steps=total, steps_per_epoch=5, warmup_steps=warmup)
            assert all(0 < value <= 1 for value in at(made, *range(total))), (total, warmup)


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize(
    "pair",
    [
        {"warmup_steps": 1, "warmup_epochs": 1},
        {"warmup_steps": 1, "warmup_percent": 1},
        {"warmup_epochs": 1, "warmup_percent": 1},
    ],
)
def test_two_warm_ups_are_refused(schedule: type[Schedule], pair: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give one of"):
        schedule(**RUN, **pair)


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (Constant, {"warmup_steps": -1}),
        (Constant, {"warmup_epochs": -0.5}),
        (Constant, {"warmup_percent": 101}),
        (Exponential, {"gamma": 0}),
        (Step, {"every_epochs": 0}),
        (OneCycle, {"peak": 0}),
        (OneCycle, {"peak": 1}),
    ],
)
def test_impossible_settings_are_refused(
    schedule: type[Schedule], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"warmup_|above 0|between 0 and 1"):
        schedule(**RUN, **settings)
