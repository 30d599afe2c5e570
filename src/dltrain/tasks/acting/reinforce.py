"""REINFORCE: make likelier what was done before a return above the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.contracts.acting import Experience
from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Outputs
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import require_at_least, require_between
from dltrain.tasks.acting.base import ActingTask
from dltrain.tasks.acting.policy import policy_for
from dltrain.tasks.acting.rollouts import WholeEpisodes


class Reinforce(ActingTask):
    """REINFORCE (Williams 1992): the gradient of the log-probability of each action, by its return.

    A batch is one whole episode of each environment. The return is what followed an action,
    discounted. Where ``baseline``, the batch's mean is taken from it, and it is divided by the
    batch's std: the reinforcement baseline of the paper. ``entropy_weight`` keeps the policy from
    being sure too early. The return of an episode that was cut by a limit of time is what it had.

    Raises ValueError for what is out of bounds.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        discount: float = 0.99,
        baseline: bool = True,
        entropy_weight: float = 0.0,
    ) -> None:
        super().__init__(model, spec)
        require_between(0, 1, discount=discount)
        require_at_least(0, entropy_weight=entropy_weight)
        self._discount, self._baseline = discount, baseline
        self._entropy_weight = entropy_weight
        self.policy = policy_for(self.asked)

    def experience(self, environments: int, device: torch.device, seed: int) -> Experience:
        """Whole episodes."""
        return WholeEpisodes(environments, self._discount, device)

    @torch.no_grad()
    def act(self, observation: Tensor, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """By chance."""
        outputs = self.model(self.read(observation))
        return {"action": self.policy.sample(outputs, generator)}

    def best_action(self, observation: Tensor) -> Tensor:
        """The likeliest one."""
        return self.policy.best(self.model(self.read(observation)))

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (n, outputs), means where actions are numbers."""
        return {"logits": self.model(self.read(batch[self._input]))}

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """A step on one episode of each environment."""
        outputs = self.model(self.read(batch["observation"]))
        following = batch["return"]
        if self._baseline and len(following) > 1:
            following = (following - following.mean()) / (following.std() + 1e-8)
        log_probability = self.policy.log_probability(outputs, batch["action"])
        entropy = self.policy.entropy(outputs).mean()
        loss = -(log_probability * following).mean() - self._entropy_weight * entropy
        optimize(loss, weight=len(following))
        return {"loss": loss.detach(), "entropy": entropy.detach(), **self.episodes(batch)}
