"""Environments as data: what is told of a bad one, seeds, resuming, and what is watched."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain import training
from dltrain.assemble import Assembly
from dltrain.callbacks.stream import StreamScalars
from dltrain.cli import dispatch
from dltrain.contracts.data import Placement
from dltrain.data.environments.gym import Gym
from dltrain.data.environments.reader import EnvironmentReader
from dltrain.data.environments.streams import ActingStream, EpisodeStream
from dltrain.errors import ConfigError, UserError
from dltrain.models.mlp import MLP
from dltrain.runs.finding import latest
from dltrain.tasks.acting.reinforce import Reinforce
from tests.conftest import Compose
from tests.environments import NAME, SPELLED, Faulty

CPU = torch.device("cpu")
CART = ("model=dqn", "data=gym", "data.environment=CartPole-v1")
SHORT = (
    *("device=cpu", "callbacks=none", "trainer.steps=4", "trainer.evaluate_steps=2"),
    *("data.validation=2", "data.test=3", "model.hidden=[4]"),
)


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", "tests.environments")
    monkeypatch.chdir(tmp_path)


def fault(config: dict[str, Any]) -> str:
    """The one fault of a config."""
    with pytest.raises(ConfigError) as caught:
        Assembly(config)
    (found,) = caught.value.faults
    return f"{found.key}: {found.problem}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CartPol-v1", "'CartPole-v1'"),
        ("CartPole-v9", "'CartPole-v1'"),
        ("lunarlander", "'LunarLander-v3'"),
        ("qqqqqq", "There are"),
    ],
)
def test_an_unknown_environment_is_told_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"environment {name}: no such environment") as caught:
        Gym(name)
    assert near in str(caught.value)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ValueError, match=r"ALE/Nothing-v5 comes with ale_py: pip install .*atari"):
        Gym("ALE/Nothing-v5")
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match=r"need gymnasium: pip install 'dltrain\[rl\]'"):
        Gym("CartPole-v1")


def test_a_package_is_imported_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Gym(SPELLED).outline().action.size == 2
    monkeypatch.delenv("DLTRAIN_PACKAGES")
    with pytest.raises(ValueError, match="DLTRAIN_PACKAGES=antigravity"):
        Gym("antigravity:Nothing-v0")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("constructor", "cannot be made: RuntimeError: no license"),
        ("mapping", r"shows a mapping \(far, near\) \(Dict\)"),
        ("several", "asks for several choices at once"),
        ("raises", "in step 3 of the episode of seed .* it raised ValueError: the motor is broken"),
        ("not a number", "in step 2 of the episode of seed .* it showed an observation with nan"),
        ("reward", "in step 1 of the episode of seed .* it gave a reward of inf"),
        ("shape", r"it showed \(3,\) numbers, and not \(2,\)"),
        ("at once", "ended with its first step: .* single_step=true allows"),
    ],
)
def test_a_bad_environment_is_told_before_it_is_trained_in(fault: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Gym(SPELLED, {"fault": fault}).read(0)


def test_what_is_no_fault_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    Gym(SPELLED, {"fault": "at once"}, single_step=True).read(0)
    Gym(SPELLED).read(0)
    assert not caplog.messages
    Gym(SPELLED, {"fault": "no seed"}).read(0)
    assert "cannot be resumed" in caplog.messages[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("model=lenet5", *CART[1:]), "model: LeNet-5 reads images"),
        (("model=mlp", *CART[1:], "task=classification"), "an environment has none: model=dqn"),
        (("model=mlp", *CART[1:], "task=ppo"), "needs a network that gives a value"),
        (("model=dqn", "data=gym", "data.environment=Pendulum-v1"), "asks for a number: model=ppo"),
    ],
)
def test_what_does_not_fit_is_one_message(
    arguments: tuple[str, ...], told: str, compose: Compose
) -> None:
    assert told in fault(compose(*arguments, "device=cpu"))


@pytest.mark.parametrize("model", ["dqn", "ppo", "reinforce"])
def test_acting_needs_an_environment(model: str, compose: Compose) -> None:
    told = fault(compose(f"model={model}", "data=digits", "device=cpu"))
    assert told.startswith("task: this learns by acting in an environment, as data=gym is")


class Fixed(Reinforce):
    """Acts by a policy that nobody trains."""

    @classmethod
    def of(cls, source: Gym) -> Fixed:
        torch.manual_seed(0)
        spec = source.outline()
        (size,) = spec.input.shape
        assert size is not None
        return cls(MLP((size,), int(spec.facts()["outputs"]), (4,)), spec)


def test_no_episode_has_the_seed_of_another() -> None:
    source = Gym(SPELLED, environments=3, validation=4, test=5)
    seen: dict[str, list[int]] = {}
    for seed in (0, 1):
        streams = source.open(Placement(CPU, seed, Fixed.of(source)))
        train = streams["train"]
        assert isinstance(train, ActingStream)
        next(train.batches(0))
        seen[f"train {seed}"] = [seat.seed for seat in train._seats]
        for split in ("validation", "test"):
            stream = streams[split]
            assert isinstance(stream, EpisodeStream)
            seen[f"{split} {seed}"] = stream._seeds
    assert seen["test 0"] == seen["test 1"]  # as a test split is the same for all runs
    every = [seed for name in seen if name not in ("test 1", "validation 1") for seed in seen[name]]
    assert len(set(every)) == len(every) == 3 + 3 + 4 + 5


def test_an_evaluation_is_the_same_each_time_and_in_whatever_batches() -> None:
    source = Gym("CartPole-v1", validation=5)
    stream = source.open(Placement(CPU, 0, Fixed.of(source)))["validation"]
    one, again = next(stream.batches(0)), next(stream.batches(0))
    assert one["return"].equal(again["return"])
    assert one["length"].equal(one["return"].long())
    assert isinstance(stream, EpisodeStream)
    stream._at_once = 2
    assert [len(batch["return"]) for batch in stream.batches(0)] == [2, 2, 1]
    assert torch.cat([batch["return"] for batch in stream.batches(0)]).equal(one["return"])


def test_batches_tell_of_the_episodes_that_ended() -> None:
    source = Gym(SPELLED, environments=3, clip_reward=0.5)
    train = source.open(Placement(CPU, 0, Fixed.of(source)))["train"]
    batch = next(train.batches(0))
    assert len(batch["return"]) == 15
    told = [batch[f"episode{rest}"].unique().tolist() for rest in ("s", "_return", "_length")]
    assert told == [[3], [5], [5]]
    assert batch["return"].max() < 2.5  # what is learned from was cut at 0.5
    assert train.scalars() == {"episodes": 3, "environment_steps": 15}
    shown: Any = StreamScalars().look
    assert shown(None, {"train": train}, None, "train").scalars == train.scalars()
    assert not shown(None, {"train": train}, None, "validation").scalars


def test_states_are_one_of_some_and_actions_begin_where_they_do() -> None:
    lake = Gym("FrozenLake-v1").outline()
    assert (lake.input.shape, lake.input.kind, lake.action.size) == ((16,), "number", 4)
    found = EnvironmentReader("FrozenLake-v1").read([3, 15])["observation"]
    assert found.argmax(1).tolist() == [3, 15]
    with pytest.raises(ValueError, match="example 1: -1 is none of 16 states"):
        EnvironmentReader("FrozenLake-v1").read([[3.0], -1])
    Path("seen.csv").write_text("0.5,-1\n\n1 2\n")
    reader = EnvironmentReader(SPELLED)
    seen = list(reader.expand([Path("seen.csv"), "3,4", [5, 6]]))
    assert reader.read(seen)["observation"].tolist() == [[0.5, -1], [1, 2], [3, 4], [5, 6]]
    for bad, told in (("a,b", "'a,b' are no numbers"), ("1", r"has shape \(1,\)")):
        with pytest.raises(ValueError, match=told):
            reader.read(list(reader.expand([bad])))
    numbers = Gym(SPELLED, {"fault": "numbers"}).outline().action
    assert (numbers.kind, numbers.shape, numbers.low, numbers.high) == ("number", (1,), (-2,), (2,))


def test_an_episode_without_a_limit_of_its_own_has_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for longest, limit in ((None, 10_000), (3, 3)):
        source = Gym(SPELLED, max_episode_steps=longest)
        assert source._made().spec.max_episode_steps == limit
        source.read(0)
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "its episodes are cut after 10,000 (data.max_episode_steps)."
    ]


@pytest.mark.parametrize("model", ["dqn", "ppo", "reinforce"])
def test_a_run_is_evaluated_and_watched(
    model: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    own = () if model == "reinforce" else ("task.batch_size=8",)
    config = compose(f"model={model}", "data=gym", f"data.environment={SPELLED}", *SHORT, *own)
    found = training.train(config)
    assert found["monitor"] == "return"
    assert found["test"] == {
        **dict.fromkeys(("return", "return_min", "return_max", "length"), 5.0),
        "return_std": 0.0,
    }
    for command in (["evaluate", "latest"], ["sample", "latest", "--episodes", "2"]):
        assert dispatch(command) == 0
    out = capsys.readouterr().out
    assert "episode 1  return 5.0000  length 5\nmean return 5.0000\n2 episodes in " in out
    (gif,) = latest(Path("outputs")).glob("samples/*.gif")
    with Image.open(gif) as image:
        assert (image.size, getattr(image, "n_frames", 1)) == ((8, 8), 6)
    assert json.loads((gif.parents[1] / "reader.json").read_text())["environment"] == SPELLED
    with pytest.raises(UserError, match="no training split"):
        dispatch(["evaluate", "latest", "--split", "train"])
    with pytest.raises(UserError, match="acts in an environment"):
        dispatch(["sample", "latest", "--n", "3"])
    with pytest.raises(UserError, match="from 1 to"):
        dispatch(["sample", "latest", "--episodes", "0"])


def test_what_cannot_be_repeated_cannot_be_resumed(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Gym(SPELLED, {"fault": "no seed"}, environments=2)
    streams = source.open(Placement(CPU, 0, Fixed.of(source)))
    kept = streams["train"].state_dict()
    with pytest.raises(UserError, match="cannot be resumed: start it again"):
        streams["train"].load_state_dict(kept)


def test_an_episode_is_repeated_from_its_seed_and_actions() -> None:
    source = Gym("CartPole-v1", environments=2)
    one, other = (source.open(Placement(CPU, 0, Fixed.of(source)))["train"] for _ in range(2))
    next(one.batches(0))
    assert isinstance(one, ActingStream)
    for _ in range(9):
        one._go_on()
    other.load_state_dict(one.state_dict())
    for stream in (one, other):
        assert isinstance(stream, ActingStream)
    a, b = next(one.batches(0)), next(other.batches(0))
    assert all(a[name].equal(b[name]) for name in a)


def test_a_stranger_names_no_package(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(
        "model=reinforce", "data=gym", f"data.environment={SPELLED}", *SHORT, "trainer.steps=1"
    )
    folder = training.train(config)["path"]
    reader = folder / "reader.json"
    reader.write_text(reader.read_text().replace("tests.environments", "antigravity"))
    listed = folder / "checksums.sha256"
    listed.unlink(missing_ok=True)
    with pytest.raises(UserError):
        dispatch(["sample", "latest"])
    assert "antigravity" not in sys.modules


def test_the_environment_of_these_tests_is_registered() -> None:
    made: Any = gymnasium.make(NAME)
    assert isinstance(made.unwrapped, Faulty)
    assert isinstance(torch.as_tensor(made.reset(seed=0)[0]), Tensor)
