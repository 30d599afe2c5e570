"""Train on inputs that are attacked in each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.attack import Attack, AttackScores
from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import require_at_least
from dltrain.tasks.attacks import PGD
from dltrain.tasks.classification import Classification


class AdversarialTraining(Classification):
    """Classification of attacked examples (Madry et al. 2018), so that attacks have no effect.

    Each batch is changed by ``attack`` before it is learned; null: one long step from a random
    beginning, ``epsilon`` 0.3 (fast adversarial training, Wong et al. 2020). ``clean`` is the
    fraction of the loss that comes from the batch as it is. Over the first ``warmup_steps`` steps
    changes grow from nothing to the whole attack: a large ``epsilon`` from the beginning can leave
    a network where it began. Evaluations are of examples as they are; ``dltrain evaluate RUN
    attack=pgd`` attacks them. Other arguments are those of classification.

    Raises ValueError for what is no fraction, and for data that cannot be attacked.
    """

    replayable = False  # an attack asks for gradients of its own

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        attack: Attack | None = None,
        clean: float = 0.0,
        warmup_steps: int = 0,
        **classification: Any,
    ) -> None:
        super().__init__(model, spec, **classification)
        if not 0 <= clean < 1:
            raise ValueError(f"clean is a fraction from 0 to below 1, got {clean}")
        require_at_least(0, warmup_steps=warmup_steps)
        self.clean, self.warmup_steps = clean, warmup_steps
        self.attack = attack or PGD(spec, epsilon=0.3, steps=1, step_size=0.375)
        self._steps = torch.zeros(())
        self._input = next(name for name, f in spec.fields.items() if f.role == "input")

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Attack the batch, and minimize the loss on what comes out; told is how that went."""

        def scores(inputs: Tensor) -> AttackScores:
            logits = self.model(inputs).float()
            losses = self.example_losses(logits, batch["target"])
            return AttackScores(losses, losses.detach() > 0)  # nobody asks who errs

        inputs = self.attack.perturbed(scores, batch[self._input])
        if self.warmup_steps:
            self._steps = self._steps.to(inputs.device) + 1  # where it is used: nothing waits
            size = (self._steps / self.warmup_steps).clamp(max=1)
            inputs = torch.lerp(batch[self._input], inputs, size)
        logits, targets = self.model(inputs), batch["target"]
        loss = self.loss(logits, targets)
        if self.clean:
            plain = self.loss(self.model(batch[self._input]), targets)
            loss = (1 - self.clean) * loss + self.clean * plain
        optimize(loss)
        return self.training_metrics(loss, logits, targets)

    def training_state(self) -> dict[str, Any]:
        """How many steps have been taken, where changes grow."""
        return {"steps": self._steps} if self.warmup_steps else {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        if self.warmup_steps:
            self._steps = state["steps"]
