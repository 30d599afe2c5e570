"""``trainer.precision=float16``: the loss is scaled, so that small gradients do not become zero."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dltrain.core.update import Optimize
from dltrain.errors import Diverged, UserError

logger = logging.getLogger(__name__)

LEAST = 2.0**-20
"""A scale at which no gradient overflows, unless it has no value at all."""


class ScaledOptimize(Optimize):
    """As :class:`Optimize`, with a loss scale for each group (Micikevicius et al. 2018).

    The scale is halved where a gradient overflows, and that step is skipped; it is doubled after
    2,000 steps without. Clipping and norms are of gradients without it. An optimizer that is not
    fused makes the step wait for the device, which has to say whether it is skipped.

    Raises :class:`UserError` for an optimizer that computes the loss several times a step.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.replayable = False
        if self._searching:
            kind = type(self.optimizers[next(iter(self._searching))]).__name__
            raise UserError(
                f"trainer.precision=float16 scales one loss a step; {kind} computes several. "
                "Choose another optimizer, or trainer.precision=float32."
            )
        self._scalers = {name: torch.amp.GradScaler(self._device_type) for name in self.optimizers}
        self._plain_steps = self.steps
        self.steps = {name: partial(self._step_or_skip, name) for name in self.optimizers}
        self._skipped: dict[str, Tensor | float] = dict.fromkeys(self.optimizers, 0.0)
        self._made = dict.fromkeys(self.optimizers, 0)

    def _backward(self, loss: Tensor, name: str) -> None:
        super()._backward(self._scalers[name].scale(loss), name)

    def _step(self, name: str) -> None:
        if any(parameter.grad is not None for parameter in self._parameters[name]):
            self._scalers[name].unscale_(self.optimizers[name])
        super()._step(name)

    def _step_or_skip(self, name: str) -> None:
        scaler, optimizer = self._scalers[name], self.optimizers[name]
        found = scaler._found_inf_per_device(optimizer)
        if not found:  # there are no gradients
            self._plain_steps[name]()
            return
        self._made[name] += 1
        self._skipped[name] = self._skipped[name] + torch.stack([*found.values()]).amax()
        scaler.step(optimizer)
        scaler.update()

    def finish(self) -> None:
        """As ever; and tell how many steps were skipped."""
        super().finish()
        for name, scaler in self._scalers.items():
            if not int(self._skipped[name]):
                continue
            logger.info(
                "trainer.precision=float16: %s of %s steps%s were skipped, for a gradient "
                "overflowed; the loss scale is %s.",
                *(f"{int(self._skipped[name]):,}", f"{self._made[name]:,}"),
                *(f" of {name}" if len(self._scalers) > 1 else "", f"{scaler.get_scale():,g}"),
            )

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on needs. Raises :class:`Diverged` where every step is skipped."""
        for name, scaler in self._scalers.items():
            if scaler.get_scale() < LEAST:
                raise Diverged(
                    f"The gradients of {name} are not finite, however small the loss is scaled. "
                    "Lower optimizer.lr, or set trainer.precision=float32."
                )
        return {
            **super().state_dict(),
            "scalers": {name: scaler.state_dict() for name, scaler in self._scalers.items()},
            "skipped": {name: float(count) for name, count in self._skipped.items()},
            "made": dict(self._made),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        for name, scaler in self._scalers.items():
            scaler.load_state_dict(state["scalers"][name])
        self._skipped, self._made = dict(state["skipped"]), dict(state["made"])
