"""Proximal policy optimization: an actor and a critic, several epochs over what was just done."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dltrain.contracts.acting import Experience
from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Outputs
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import require_at_least
from dltrain.models.acting.actor_critic import HasValue
from dltrain.tasks.acting.base import ActingTask
from dltrain.tasks.acting.policy import policy_for
from dltrain.tasks.acting.rollouts import Collecting, Rollouts


class PPO(ActingTask):
    """Proximal policy optimization, the clipped objective (Schulman et al. 2017).

    Of ``steps`` steps in each environment advantages are estimated (``discount`` and ``gae``,
    Schulman et al. 2016); then ``epochs`` passes are made over them in batches of ``batch_size``.
    The ratio of new and old probability counts up to ``clip`` from 1; ``value_weight`` and
    ``entropy_weight`` are of the other two terms of the loss. Advantages are standardized in each
    batch where ``normalize``.

    Raises ValueError for a network without a value, and for what is out of bounds.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        discount: float = 0.99,
        gae: float = 0.95,
        steps: int = 128,
        epochs: int = 10,
        batch_size: int = 256,
        clip: float = 0.2,
        value_weight: float = 0.5,
        entropy_weight: float = 0.0,
        normalize: bool = True,
    ) -> None:
        super().__init__(model, spec)
        if not isinstance(model, HasValue):
            raise ValueError(
                "ppo needs a network that gives a value beside the policy, as model=ppo is; "
                f"{type(model).__name__} does not"
            )
        require_at_least(0, value_weight=value_weight, entropy_weight=entropy_weight)
        if not clip > 0:
            raise ValueError(f"clip must be above 0, got {clip}")
        self._collecting = Collecting(steps, epochs, batch_size, discount, gae)
        self._clip, self._normalize = clip, normalize
        self._value_weight, self._entropy_weight = value_weight, entropy_weight
        self.policy = policy_for(self.asked)

    @property
    def network(self) -> HasValue:
        """The model, as what it is: no second name in the checkpoint."""
        return cast(HasValue, self.model)

    def experience(self, environments: int, device: torch.device, seed: int) -> Experience:
        """Rollouts of the policy as it is."""
        return Rollouts(self._collecting, self._values, device, seed)

    @torch.no_grad()
    def act(self, observation: Tensor, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """By chance; with ``log_probability`` (n,) and ``value`` (n,)."""
        outputs, value = self.network.with_value(self.read(observation))
        action = self.policy.sample(outputs, generator)
        log_probability = self.policy.log_probability(outputs, action)
        return {"action": action, "log_probability": log_probability, "value": value}

    def best_action(self, observation: Tensor) -> Tensor:
        """The likeliest one."""
        return self.policy.best(self.model(self.read(observation)))

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (n, outputs), means where actions are numbers; ``value`` (n,)."""
        outputs, value = self.network.with_value(self.read(batch[self._input]))
        return {"logits": outputs, "value": value}

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """A step on one batch of the steps that were collected."""
        outputs, value = self.network.with_value(self.read(batch["observation"]))
        advantage = batch["advantage"]
        if self._normalize and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_ratio = self.policy.log_probability(outputs, batch["action"]) - batch["log_probability"]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self._clip, 1 + self._clip)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        value_loss = (value - batch["return"]).square().mean()
        entropy = self.policy.entropy(outputs).mean()
        loss = policy_loss + self._value_weight * value_loss - self._entropy_weight * entropy
        optimize(loss, weight=len(advantage))
        with torch.no_grad():
            # An estimate of low variance that is never below 0 (Schulman 2020).
            kl = (ratio - 1 - log_ratio).mean()
            outside = ((ratio - 1).abs() > self._clip).float().mean()
        return {
            "loss": loss.detach(),
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy.detach(),
            "kl": kl,
            "clipped": outside,
            **self.episodes(batch),
        }

    @torch.no_grad()
    def _values(self, observation: Tensor) -> Tensor:
        return self.network.with_value(self.read(observation))[1]
