"""``optimize(loss, name)``: the one place where gradients are made and weights change.

zero_grad, regularizer, mixed precision, clipping, accumulation, the step and what modifiers do
after it are each here, once, for every task.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.run import Group, Modifier, Regularizer
from dltrain.contracts.task import Phase
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.torch_startup import step_of
from dltrain.errors import UserError


class Optimize:
    """Minimizes a loss over one named parameter group of a task.

    ``optimizers`` maps the names of ``groups`` (the task's) to their optimizers, ``regularizers``
    to what holds their weights back; a name that is left out has none. ``modifiers`` act after
    each step, in order. Gradients of ``accumulate`` calls are averaged into one step, each call
    counting as much as its ``weight``; ``clip_norm`` bounds the norm of a group's whole gradient,
    to which weight decay that rides in the optimizer is added afterwards, as is usual. Gradients
    are summed over ``ranks`` once a step, with its last call.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        groups: Mapping[str, Group],
        regularizers: Mapping[str, Sequence[Regularizer]],
        device_type: str,
        clip_norm: float | None = None,
        accumulate: int = 1,
        modifiers: Sequence[Modifier] = (),
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self.optimizers = dict(optimizers)
        self.steps = {name: step_of(optimizer) for name, optimizer in self.optimizers.items()}
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.measure = False
        """Set before a step whose gradient norms somebody will read."""
        self.replayable = True
        """Whether nothing in a step is decided on the host, so that a CUDA graph may replay it."""
        self.gradient_norms: dict[str, Tensor] = {}
        self._weights = {name: group.weights for name, group in groups.items()}
        # A group of biases alone has nothing to regularize.
        self.regularizers = {
            name: regularizers.get(name, ()) if self._weights[name] else ()
            for name in self.optimizers
        }
        self.modifiers = list(modifiers)
        self._searching = {
            name for name, one in self.optimizers.items() if isinstance(one, torch.optim.LBFGS)
        }
        """Those whose optimizer computes the loss several times a step."""
        # A rank's loss is a part of the batch's, as that of a call is a part of several calls'.
        self._sums = accumulate > 1 or self._ranks.several
        self._device_type = device_type
        self._calls = dict.fromkeys(self.optimizers, 0)
        self._totals: dict[str, Tensor | float | None] = dict.fromkeys(self.optimizers)
        """The weights of the calls since the last step; None where they weigh alike."""
        self._multiplier: float | None = None
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in self.optimizers.items()
        }
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        self._initial = {
            name: copy.deepcopy(optimizer.state_dict()["state"])
            for name, optimizer in self.optimizers.items()
        }
        """What optimizers have gathered before their first step: of most, nothing."""

    def __call__(
        self,
        loss: Tensor | Callable[[], Tensor],
        name: str = "model",
        weight: Tensor | float | None = None,
    ) -> None:
        """Backpropagate ``loss`` and, when it is time, step the group ``name``.

        ``loss`` is 0-d, or a function that computes it anew: an optimizer that asks several times
        a step (L-BFGS) needs that. ``weight`` is what the loss is a mean over. Raises
        :class:`UserError` for such an optimizer where the task has one loss to give, or several
        calls make one step.
        """
        if name in self._searching:
            self._search(loss, name)
            return
        if not isinstance(loss, Tensor):
            loss = loss()
        if not torch.is_autocast_enabled(self._device_type):
            self._update(loss, name, weight)
            return
        # The backward pass already knows the dtypes that the forward pass chose.
        with torch.autocast(self._device_type, enabled=False):
            self._update(loss, name, weight)
        # It keeps bfloat16 copies of weights, which a second loss of the step must not see.
        torch.clear_autocast_cache()

    def _update(self, loss: Tensor, name: str, weight: Tensor | float | None) -> None:
        if self.regularizers[name]:
            loss = self._penalized(loss, name)
        if not self._sums:
            self._backward(loss, name)
            self._step(name)
            return
        self._backward(self._part(loss, name, weight), name)
        self._calls[name] += 1
        if self._calls[name] % self.accumulate == 0:
            self._average(name, self.accumulate)
            self._step(name)

    def _part(self, loss: Tensor, name: str, weight: Tensor | float | None) -> Tensor:
        """What ``loss`` adds to that of a step."""
        fraction = self._ranks.fraction
        weight = self._ranks.rows if weight is None else weight
        if weight is None:
            return loss * fraction / self.accumulate
        if not fraction:  # rows that another rank has
            weight = weight * 0
        total = self._totals[name]
        self._totals[name] = weight if total is None else total + weight
        return loss * weight

    def _backward(self, loss: Tensor, name: str) -> None:
        torch.autograd.backward(loss, inputs=self._inputs(name))

    def _inputs(self, name: str) -> list[Tensor] | None:
        """What gradients are for: those of one network are not to be filled by a loss of another's.

        Parts may be frozen for a while.
        """
        if len(self.optimizers) == 1:
            return None
        return [p for p in self._parameters[name] if p.requires_grad]

    def _penalized(self, loss: Tensor, name: str) -> Tensor:
        for regularizer in self.regularizers[name]:
            penalty = regularizer.penalty(self._weights[name])
            if penalty is not None:
                loss = loss + penalty
        return loss

    def _average(self, name: str, calls: int) -> None:
        """Make a mean of the gradients of ``calls`` calls; whole steps without weights are one."""
        total, self._totals[name] = self._totals[name], None
        total = self._ranks.together(self._parameters[name], total)
        if total is None and calls == self.accumulate:
            return
        gradients = [p.grad for p in self._parameters[name] if p.grad is not None]
        factor = self.accumulate / calls if total is None else _inverse(total)
        self._ranks.scale(gradients, factor)

    def _search(self, loss: Tensor | Callable[[], Tensor], name: str) -> None:
        """One step of an optimizer that computes the loss as often as it likes."""
        if isinstance(loss, Tensor) or self.accumulate > 1:
            raise UserError(
                f"optimizer: {type(self.optimizers[name]).__name__} computes the loss several "
                "times a step; this task gives it once, or trainer.accumulate is above 1. "
                "Choose another optimizer."
            )

        def closure() -> float:
            self.optimizers[name].zero_grad()
            value = self._penalized(loss(), name) * self._ranks.fraction
            torch.autograd.backward(value, inputs=self._inputs(name))
            self._ranks.together(self._parameters[name], None)
            return float(self._ranks.sum(value.detach()))

        self.optimizers[name].step(closure)
        self._after(name)

    def _step(self, name: str) -> None:
        parameters = self._parameters[name]
        if self.clip_norm is not None:
            self.gradient_norms[name] = self._ranks.clip(parameters, self.clip_norm)
        elif self.measure:
            self.gradient_norms[name] = self._ranks.norm(parameters)
        self.steps[name]()
        # What optimizer.zero_grad does, without the profiler's record of it: a tenth of the step of
        # a small model.
        for parameter in parameters:
            parameter.grad = None
        if self.modifiers:
            self._after(name)

    @torch.no_grad()
    def _after(self, name: str) -> None:
        for modifier in self.modifiers:
            modifier.after_update(name)

    @torch.no_grad()
    def begin_phase(self, phase: Phase) -> None:
        """Tell the modifiers; forget what the optimizers have gathered, where it is ``fresh``.

        And the gradient norms, for it may not step all groups.
        """
        self.gradient_norms.clear()
        if phase.fresh:
            for name, optimizer in self.optimizers.items():
                state = {"state": copy.deepcopy(self._initial[name])}
                optimizer.load_state_dict({**optimizer.state_dict(), **state})
        for modifier in self.modifiers:
            modifier.begin_phase(phase)

    @torch.no_grad()
    def end_phase(self, phase: Phase) -> None:
        """Tell the modifiers."""
        for modifier in self.modifiers:
            modifier.end_phase(phase)

    def finish(self) -> None:
        """Step with what the run's last calls have accumulated, averaged over those calls."""
        for name, calls in self._calls.items():
            left = calls % self.accumulate
            if left:
                self._average(name, left)
                self._step(name)
                self._calls[name] = 0

    def set_multiplier(self, multiplier: float) -> None:
        """Scale every group's base learning rate."""
        if multiplier == self._multiplier:
            return
        self._multiplier = multiplier
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                rate = group["initial_lr"] * multiplier
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def learning_rates(self) -> dict[str, float]:
        """The learning rates now in force, by group name and, behind it, by pattern."""
        found: dict[str, float] = {}
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                # A checkpoint of an earlier version has brought its groups along, without pattern.
                pattern = group.get("pattern", "")
                found.setdefault(f"{name}/{pattern}" if pattern else name, float(group["lr"]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs: optimizer states, and gradients not yet used."""
        return {
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "calls": dict(self._calls),
            "totals": {n: self._ranks.summed([total])[0] for n, total in self._totals.items()},
            "gradients": {
                n: self._ranks.summed([_whole(p.grad) for p in ps])
                for n, ps in self._parameters.items()
            },
            # With accumulation they may be logged steps after they were measured.
            "gradient_norms": dict(self.gradient_norms),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; rank 0 goes on with sums over ranks."""
        for name, optimizer in self.optimizers.items():
            found = self._ranks.placed_states(state["optimizers"][name], self._parameters[name])
            optimizer.load_state_dict(dict(found))
            for parameter, gradient in zip(
                self._parameters[name], state["gradients"][name], strict=True
            ):
                kept = gradient is not None and self._ranks.first
                parameter.grad = gradient.to(parameter.device) if kept else None
        self._calls, self._multiplier = dict(state["calls"]), None
        if self._ranks.first:
            self._totals = dict(state["totals"])
        self.gradient_norms = dict(state["gradient_norms"])


def _whole(gradient: Tensor | None) -> Tensor | None:
    """A gradient that may have a few rows alone, which no checkpoint holds, with all of them."""
    return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


def _inverse(total: Tensor | float) -> Tensor | float:
    """1 / total; 0 of no weight at all, where every gradient is 0 and stays so."""
    if isinstance(total, Tensor):
        return (1 / total).masked_fill_(total == 0, 0.0)
    return 1 / total if total else 0.0
