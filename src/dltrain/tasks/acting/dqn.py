"""Deep Q-learning: the value of each action, learned from a replay buffer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.acting import Experience
from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Outputs
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import require_at_least, require_between
from dltrain.tasks.acting.base import ActingTask
from dltrain.tasks.acting.replay import Replay, Replaying


class DQN(ActingTask):
    """Deep Q-learning (Mnih et al. 2015), and what came after it by argument.

    ``double``: the network chooses the next action, its older copy says what that is worth (van
    Hasselt et al. 2016). ``n_step``: so many rewards before that value (Sutton 1988).
    ``prioritized``: steps are replayed by their last errors, to the power ``priority``, and weighed
    by ``importance``, see :class:`~dltrain.tasks.acting.replay.Replaying` (Schaul et al. 2016).
    Dueling is the network's (``model.dueling``, Wang et al. 2016).

    It acts by chance with a probability that falls from ``explore_from`` to ``explore_to`` over
    ``explore_steps`` steps in environments. ``capacity``, ``warmup``, ``collect``, ``updates`` and
    ``batch_size`` are those of the replay buffer. The older copy takes ``target_rate`` of the way
    to the network every ``target_every`` batches. The loss is Huber's: squared errors up to 1.

    Raises ValueError where actions are no choice of some, and for what is out of bounds.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        double: bool = True,
        n_step: int = 3,
        prioritized: bool = False,
        priority: float = 0.6,
        importance: float = 0.4,
        importance_batches: int = 20_000,
        discount: float = 0.99,
        capacity: int = 50_000,
        warmup: int = 1000,
        collect: int = 256,
        updates: int = 128,
        batch_size: int = 64,
        explore_from: float = 1.0,
        explore_to: float = 0.04,
        explore_steps: int = 10_000,
        target_every: int = 128,
        target_rate: float = 1.0,
    ) -> None:
        super().__init__(model, spec)
        if self.asked.kind != "class":
            raise ValueError(
                "Q-learning chooses one of some actions, and this environment asks for "
                f"{_numbers(self.asked.shape)}: model=ppo and model=reinforce give such"
            )
        require_between(0, 1, explore_from=explore_from, explore_to=explore_to)
        require_between(0, 1, target_rate=target_rate)
        require_at_least(1, explore_steps=explore_steps, target_every=target_every)
        self._replaying = Replaying(
            capacity=capacity,
            warmup=warmup,
            collect=collect,
            updates=updates,
            batch_size=batch_size,
            n_step=n_step,
            discount=discount,
            priority=priority if prioritized else 0.0,
            importance=importance,
            importance_batches=importance_batches,
        )
        self._double = double
        self._explore = (explore_from, explore_to, explore_steps)
        self._target_every, self._target_rate = target_every, target_rate
        # No module of this one: it is no part of what was learned.
        self._target: list[nn.Module] = []
        self._replay: list[Replay] = []
        self._batches = 0

    def experience(self, environments: int, device: torch.device, seed: int) -> Experience:
        """A replay buffer."""
        self._replay = [Replay(self._replaying, environments, device, seed)]
        return self._replay[0]

    def epsilon(self, steps: int) -> float:
        """The probability of acting by chance, after so many steps."""
        high, low, over = self._explore
        return high + (low - high) * min(1.0, steps / over)

    @torch.no_grad()
    def act(self, observation: Tensor, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The best action, or any."""
        count, size = len(observation), self.asked.size
        assert size is not None, "a class"
        action = torch.randint(size, (count,), generator=generator)
        chance = torch.rand(count, generator=generator) < self.epsilon(steps)
        if not bool(chance.all()):
            action = torch.where(chance, action, self.best_action(observation).cpu())
        return {"action": action.to(observation.device)}

    def best_action(self, observation: Tensor) -> Tensor:
        """The one of the highest value (n,)."""
        return self.model(self.read(observation)).argmax(1)

    def forward(self, batch: Batch) -> Outputs:
        """``values`` (n, actions), the return to expect after each action."""
        return {"values": self.model(self.read(batch[self._input]))}

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Bring the value of what was done nearer to what came of it."""
        target = self._older()
        values = self.model(self.read(batch["observation"]))
        value = values.gather(1, batch["action"][:, None])[:, 0]
        with torch.no_grad():
            following = self.read(batch["next_observation"])
            after = target(following)
            chosen = self.model(following) if self._double else after
            best = after.gather(1, chosen.argmax(1, keepdim=True))[:, 0]
            wanted = batch["reward"] + batch["discount"] * best
        losses = functional.smooth_l1_loss(value, wanted, reduction="none")
        loss = (batch["weight"] * losses).mean()
        optimize(loss)
        with torch.no_grad():
            self._replay[0].surprise(batch["place"], wanted - value)
        self._batches += 1
        if self._batches % self._target_every == 0:
            self._renew()
        return {"loss": loss.detach(), "value": value.detach().mean(), **self.episodes(batch)}

    def training_state(self) -> dict[str, Any]:
        """The older copy, and how many batches it was renewed by."""
        return {"batches": self._batches, "target": self._older().state_dict()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self._batches = int(state["batches"])
        self._older().load_state_dict(state["target"])

    def _older(self) -> nn.Module:
        """The copy, made where the network lies once training begins."""
        if not self._target:
            self._target = [copy.deepcopy(self.model).requires_grad_(False).eval()]
        return self._target[0]

    @torch.no_grad()
    def _renew(self) -> None:
        older = self._older()
        pairs = [
            *zip(older.parameters(), self.model.parameters(), strict=True),
            *zip(older.buffers(), self.model.buffers(), strict=True),
        ]
        for old, new in pairs:
            if old.is_floating_point() and self._target_rate < 1:
                old.lerp_(new, self._target_rate)
            else:
                old.copy_(new)


def _numbers(shape: tuple[int | None, ...]) -> str:
    count = shape[0] if shape else 1
    return "a number" if count == 1 else f"{count} numbers"
