"""``trainer.release_gradients``: no gradient outlives the step of its weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dltrain.core.update import Optimize
from dltrain.errors import UserError


class ReleasingOptimize(Optimize):
    """As :class:`Optimize`, but in the backward pass each parameter is stepped by itself.

    That is when its gradient is whole; it is then set free. So there is the gradient of about one
    layer at a time instead of that of all (Lv et al. 2024). Weights end as they would
    without, to the last bit where the optimizer looks at one parameter at a time.

    Raises :class:`UserError` for an optimizer that computes the loss several times a step.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.replayable = False
        if self._searching:
            kind = type(self.optimizers[next(iter(self._searching))]).__name__
            raise UserError(
                f"trainer.release_gradients: {kind} needs all gradients at once. Choose another "
                "optimizer, or set it to false."
            )
        self._stepping: str | None = None
        """The group of the backward pass that goes on; a gradient that a probe takes steps none."""
        self._norms: list[Tensor] = []
        for name, optimizer in self.optimizers.items():
            for number, group in enumerate(optimizer.param_groups):
                for parameter in group["params"]:
                    release = partial(self._release, name, number)
                    parameter.register_post_accumulate_grad_hook(release)

    def _backward(self, loss: Tensor, name: str) -> None:
        self._stepping = name
        try:
            super()._backward(loss, name)
        finally:
            self._stepping = None

    def _release(self, name: str, number: int, parameter: Tensor) -> None:
        if self._stepping != name:
            return
        assert parameter.grad is not None, "it has just come"
        if self.measure:
            self._norms.append(torch.linalg.vector_norm(parameter.grad))
        optimizer = self.optimizers[name]
        groups = optimizer.param_groups
        optimizer.param_groups = [{**groups[number], "params": [parameter]}]
        try:
            self.steps[name]()
        finally:
            optimizer.param_groups = groups
        parameter.grad = None

    def _step(self, name: str) -> None:
        if self._norms:
            self.gradient_norms[name] = torch.linalg.vector_norm(torch.stack(self._norms))
            self._norms.clear()
        if self.modifiers:
            self._after(name)
