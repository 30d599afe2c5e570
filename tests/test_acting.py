"""What tasks that act keep of their steps, against a few lines that do the same slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.acting import Experience, Transition
from dltrain.contracts.data import DataSpec, Field
from dltrain.models.acting.actor_critic import ActorCritic
from dltrain.models.acting.q_network import QNetwork
from dltrain.tasks.acting.dqn import DQN
from dltrain.tasks.acting.policy import Categorical, Gaussian
from dltrain.tasks.acting.ppo import PPO
from dltrain.tasks.acting.replay import Replay, Replaying
from dltrain.tasks.acting.rollouts import Collecting, Rollouts, WholeEpisodes

CPU = torch.device("cpu")
SPEC = DataSpec(
    {
        "observation": Field((1,), "number", "input"),
        "action": Field((), "class", "action", size=3, names=("0", "1", "2")),
    }
)


def replaying(**settings: Any) -> Replaying:
    given: dict[str, Any] = {
        **{"capacity": 40, "warmup": 8, "collect": 4, "updates": 1, "batch_size": 64, "n_step": 3},
        **{"discount": 0.5, "priority": 0.0, "importance": 0.4, "importance_batches": 10},
    }
    return Replaying(**given | settings)


class Played:
    """Episodes of several lengths in two environments: what is seen numbers each place."""

    def __init__(self, environments: int = 2) -> None:
        self.count = environments
        self.place = 0
        self.left = [3 + who for who in range(environments)]
        self.seen = [self._next() for _ in range(environments)]
        self.steps: list[tuple[int, float, float, float, bool, bool]] = []
        """(environment, observation, reward, next observation, terminated, truncated)"""

    def _next(self) -> float:
        self.place += 1
        return float(self.place)

    def go_on(self, kept: Experience, who: list[int] | None = None) -> None:
        who = list(range(self.count)) if who is None else who
        rows = []
        for one in who:
            self.left[one] -= 1
            over = self.left[one] == 0
            cut = over and self.place % 2 == 0
            row = (one, self.seen[one], float(self.place % 5), self._next(), over and not cut, cut)
            rows.append(row)
            self.steps.append(row)
            self.seen[one] = self._next() if over else row[3]
            if over:
                self.left[one] = 1 + self.place % 6
        numbers = torch.tensor([row[1:4] for row in rows])
        ends = np.array([row[4:] for row in rows])
        action = torch.tensor([int(row[1]) % 3 for row in rows])
        chosen = {"action": action, "value": numbers[:, 0] / 10}
        kept.add(
            Transition(
                *(np.array(who), numbers[:, :1], chosen, numbers[:, 1].numpy()),
                *(ends[:, 0], ends[:, 1], numbers[:, 2:]),
            )
        )

    def after(self, observation: float, n_step: int, discount: float) -> tuple[float, float, float]:
        """The reward, the discount and the next observation of a row that begins there."""
        index = next(i for i, row in enumerate(self.steps) if row[1] == observation)
        own = [row for row in self.steps[index:] if row[0] == self.steps[index][0]]
        reward, factor = 0.0, 1.0
        for row in own[:n_step]:
            reward, factor = reward + factor * row[2], factor * discount
            if row[4]:
                factor = 0.0
            if row[4] or row[5]:
                break
        return reward, factor, row[3]


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("priority", [0.0, 0.7])
def test_rows_span_their_steps_and_no_end(n_step: int, priority: float) -> None:
    how = replaying(n_step=n_step, priority=priority)
    kept, played, seen = Replay(how, 2, CPU, 0), Played(), set[float]()
    for _ in range(60):  # around the ring, twice
        played.go_on(kept)
        batch = kept.take()
        if batch is None:
            continue
        columns = [batch[n].flatten().tolist() for n in ("reward", "discount", "next_observation")]
        for row, observation in enumerate(batch["observation"].flatten().tolist()):
            assert tuple(c[row] for c in columns) == played.after(observation, n_step, 0.5)
            assert batch["action"][row] == int(observation) % 3
            seen.add(observation)
    # All were drawn at some time, but those at the end, of which not all is known.
    assert {row[1] for row in played.steps[: -4 * n_step]} <= seen


def test_batches_are_owed_as_steps_are_taken() -> None:
    kept, played = Replay(replaying(collect=6, updates=2, warmup=9), 2, CPU, 0), Played()
    taken = []
    for _ in range(12):
        played.go_on(kept)
        taken.append(0)
        while kept.take() is not None:
            taken[-1] += 1

    # At 12, 18 and 24 steps; 6 were too few to begin.
    assert taken == [0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 2]


def test_what_surprised_is_drawn_more_often_and_counts_less() -> None:
    kept, played = Replay(replaying(priority=1.0, n_step=1, batch_size=400), 2, CPU, 0), Played()
    for _ in range(6):
        played.go_on(kept)
    batch = kept.take()
    assert batch is not None
    assert batch["weight"].eq(1).all()  # none is known yet
    surprising = batch["place"][0]
    kept.surprise(batch["place"], torch.where(batch["place"] == surprising, 9.0, 1.0))

    for _ in range(2):
        played.go_on(kept)
    batch = kept.take()
    assert batch is not None
    drawn = batch["place"] == surprising
    # What was never drawn counts as the largest error so far: four new steps with 9 each.
    assert drawn.float().mean() == pytest.approx(9 / (9 * 5 + 11), abs=0.02)
    # (p / q) ** -beta, beta on its way from 0.4 to 1.
    assert batch["weight"][drawn][0] == pytest.approx(9 ** -(0.4 + 0.6 * 2 / 10), rel=1e-5)


def rollouts(steps: int, gae: float, **settings: Any) -> Rollouts:
    how = Collecting(steps, settings.get("epochs", 1), settings.get("batch_size", 99), 0.9, gae)
    return Rollouts(how, lambda observation: observation[:, 0] / 10, CPU, 0)


@pytest.mark.parametrize("gae", [0.0, 0.7, 1.0])
def test_advantages_are_sums_of_errors_up_to_the_end(gae: float) -> None:
    kept, played = rollouts(7, gae), Played()
    for _ in range(7):
        played.go_on(kept)
    batch = kept.take()
    assert batch is not None
    assert kept.take() is None
    found = dict(zip(batch["observation"].flatten().tolist(), batch["advantage"], strict=True))
    for index, (who, observation, *_) in enumerate(played.steps):
        total, factor = 0.0, 1.0
        for row in [row for row in played.steps[index:] if row[0] == who]:
            after = 0 if row[4] else row[3] / 10
            total += factor * (row[2] + 0.9 * after - row[1] / 10)
            factor *= 0.9 * gae
            if row[4] or row[5]:
                break
        assert float(found[observation]) == pytest.approx(total, abs=1e-5)
    assert torch.allclose(batch["return"], batch["advantage"] + batch["value"])


def test_each_epoch_has_every_row_once() -> None:
    kept, played = rollouts(5, 0.9, epochs=3, batch_size=4), Played()
    for _ in range(5):
        played.go_on(kept)
    sizes, seen = [], list[float]()
    while (batch := kept.take()) is not None:
        sizes.append(len(batch["observation"]))
        seen += batch["observation"].flatten().tolist()
    assert sizes == [4, 4, 2] * 3
    assert sorted(seen[:10]) == sorted(seen[10:20]) == sorted(seen[20:])
    assert seen[:10] != seen[10:20]


def test_an_episode_of_each_environment_is_a_batch() -> None:
    kept, played = WholeEpisodes(2, 0.5, CPU), Played()
    while (batch := kept.take()) is None:
        played.go_on(kept, np.flatnonzero(~kept.waiting).tolist())
    rewards = {who: [row[2] for row in played.steps if row[0] == who] for who in (0, 1)}
    assert [len(rewards[who]) for who in (0, 1)] == [3, 4]
    first = sum(0.5**step * reward for step, reward in enumerate(rewards[0]))
    assert float(batch["return"][0]) == pytest.approx(first)
    assert len(batch["return"]) == 7
    assert not kept.waiting.any()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"capacity": 5}, "capacity must be at least warmup"),
        ({"warmup": 2}, "warmup must be at least 3"),
        ({"discount": 1.5}, "discount must be from 0 to 1"),
        ({"collect": 0}, "collect must be at least 1"),
    ],
)
def test_a_replay_buffer_is_possible(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replaying(**settings)


class Values(nn.Module):
    """Three numbers, whatever is seen: its one parameter."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, observation: Tensor) -> Tensor:
        return self.values.expand(len(observation), -1)


@pytest.mark.parametrize(("double", "after"), [(False, 5.0), (True, 2.0)])
def test_the_older_copy_values_what_the_network_chooses(double: bool, after: float) -> None:
    model = Values(1.0, 2.0, 5.0)
    task = DQN(model, SPEC, double=double, discount=0.5, target_every=2)
    task.experience(1, CPU, 0)
    assert task.training_state()["target"]["values"].tolist() == [1, 2, 5]
    with torch.no_grad():
        model.values.copy_(torch.tensor([0.0, 9.0, 5.0]))
    losses: list[float] = []
    batch = {
        "observation": torch.zeros(1, 1),
        "action": torch.tensor([0]),
        "reward": torch.tensor([1.0]),
        "discount": torch.tensor([0.5]),
        "next_observation": torch.zeros(1, 1),
        "weight": torch.ones(1),
        "place": torch.zeros(1, dtype=torch.int64),
        **{name: torch.zeros(1) for name in ("episodes", "episode_return", "episode_length")},
    }
    for _ in range(2):
        task.train_step(batch, lambda loss, name="model", weight=None: losses.append(loss.item()))
    assert losses[0] == pytest.approx(1 + 0.5 * after - 0.5)  # Huber's, beyond 1
    assert task.training_state()["target"]["values"].tolist() == [0, 9, 5]


def test_exploring_gets_rarer() -> None:
    task = DQN(Values(0.0, 1.0, 0.0), SPEC, explore_from=0.8, explore_to=0.2, explore_steps=100)
    generator = torch.Generator().manual_seed(0)
    for steps, chance in ((0, 0.8), (50, 0.5), (100, 0.2), (1000, 0.2)):
        assert task.epsilon(steps) == pytest.approx(chance)
        action = task.act(torch.zeros(6000, 1), steps, generator)["action"]
        assert (action != 1).float().mean() == pytest.approx(chance * 2 / 3, abs=0.02)


def test_a_dueling_network_adds_to_the_value_of_the_state() -> None:
    plain, dueling = (QNetwork((4,), 3, (8, 8), dueling=flag) for flag in (False, True))
    seen = torch.randn(5, 4)
    assert dueling.value is not None
    values = dueling(seen)
    assert values.mean(1, keepdim=True).allclose(dueling.value(dueling.trunk(seen)), atol=1e-6)
    assert len(list(dueling.parameters())) > len(list(plain.parameters()))


def test_screens_are_read_by_convolutions() -> None:
    network = QNetwork((4, 84, 84), 6, (512,))
    # Mnih et al. 2015 with six actions.
    assert sum(p.numel() for p in network.parameters()) == 1_687_206
    assert ActorCritic((4, 10, 10), 6)(torch.zeros(1, 4, 10, 10)).shape == (1, 6)


def test_policies_say_how_probable_their_actions_are() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(20_000, -1)
    one = Categorical()
    drawn = one.sample(logits, generator)
    frequencies = torch.bincount(drawn).float() / len(drawn)
    assert torch.allclose(frequencies, logits[0].softmax(0), atol=0.02)
    theirs = torch.distributions.Categorical(logits=logits)
    assert torch.allclose(one.log_probability(logits, drawn), theirs.log_prob(drawn))
    assert torch.allclose(one.entropy(logits), theirs.entropy())
    two, means = Gaussian(2), torch.tensor([[1.0, -2.0]]).expand(20_000, -1)
    numbers = two.sample(means, generator)
    assert torch.allclose(numbers.mean(0), means[0], atol=0.03)
    normal = torch.distributions.Normal(means, 1.0)
    assert torch.allclose(two.log_probability(means, numbers), normal.log_prob(numbers).sum(1))
    assert torch.allclose(two.entropy(means), normal.entropy().sum(1))


def test_the_ratio_counts_up_to_the_clip() -> None:
    task = PPO(ActorCritic((1,), 3), SPEC, clip=0.2, value_weight=0.0, normalize=False)
    batch = {
        "observation": torch.zeros(2, 1),
        "action": torch.tensor([0, 0]),
        # It was half and twice as probable as it is now: the ratios are 2 and 0.5.
        "log_probability": torch.tensor([1 / 6, 2 / 3]).log(),
        "advantage": torch.tensor([1.0, 1.0]),
        "return": torch.zeros(2),
        **{name: torch.zeros(2) for name in ("episodes", "episode_return", "episode_length")},
    }
    found = task.train_step(batch, lambda loss, name="model", weight=None: None)
    loss = found["policy_loss"]
    assert isinstance(loss, Tensor)
    assert float(loss) == pytest.approx(-(1.2 + 0.5) / 2, rel=1e-2)
    assert found["clipped"] == 1
