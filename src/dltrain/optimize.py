"""``optimize(loss, name)``: the one place where gradients are made and weights change.

zero_grad, regularizer, mixed precision, clipping, accumulation and the step are each here,
once, for every task.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.run import Modifier
from dltrain.types import Regularizer, Task
from dltrain.uncompiled import step_of

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)

# Those whose weight decay adds weight_decay * w to the gradient. Others shrink the weight itself
# (AdamW, Adafactor, Muon), and of one that is not from torch nobody can know.
_COUPLED = {
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
}


class Optimize:
    """Minimises a loss over one named parameter group of a task.

    ``optimizers`` maps the names of ``task.parameter_groups()`` to their optimizers,
    ``regularizers`` to what holds their ``weights`` back; a name that is left out has none.
    Gradients of ``accumulate`` calls are averaged into one step; ``clip_norm`` bounds the norm of
    a group's whole gradient, to which weight decay that rides in the optimizer is added
    afterwards, as is usual. ``modifiers`` act on a group after each of its steps.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        weights: Mapping[str, Sequence[nn.Parameter]],
        regularizers: Mapping[str, Sequence[Regularizer]],
        device_type: str,
        clip_norm: float | None = None,
        accumulate: int = 1,
        modifiers: Sequence[Modifier] = (),
    ) -> None:
        self.optimizers = dict(optimizers)
        self._steps = {name: step_of(optimizer) for name, optimizer in self.optimizers.items()}
        self.modifiers = list(modifiers)
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.measure = False
        """Set before a step whose gradient norms somebody will read."""
        self.gradient_norms: dict[str, Tensor] = {}
        self._weights = weights
        # A group of biases alone has nothing to regularize.
        self._regularizers = {
            name: regularizers.get(name, ()) if weights[name] else () for name in self.optimizers
        }
        self._device_type = device_type
        self._calls = dict.fromkeys(self.optimizers, 0)
        self._multiplier: float | None = None
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in self.optimizers.items()
        }
        # inputs= keeps a loss over one network from filling the gradients of another.
        self._inputs = {
            name: [p for p in parameters if p.requires_grad] if len(self.optimizers) > 1 else None
            for name, parameters in self._parameters.items()
        }
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def __call__(self, loss: Tensor, name: str = "model") -> None:
        """Backpropagate ``loss`` (0-d) and, when it is time, step the group ``name``."""
        if not torch.is_autocast_enabled(self._device_type):
            self._update(loss, name)
            return
        # The backward pass already knows the dtypes that the forward pass chose.
        with torch.autocast(self._device_type, enabled=False):
            self._update(loss, name)
        # It keeps bfloat16 copies of weights, which a second loss of the step must not see.
        torch.clear_autocast_cache()

    def _update(self, loss: Tensor, name: str) -> None:
        for regularizer in self._regularizers[name]:
            penalty = regularizer.penalty(self._weights[name])
            if penalty is not None:
                loss = loss + penalty
        if self.accumulate > 1:
            loss = loss / self.accumulate
        torch.autograd.backward(loss, inputs=self._inputs[name])
        self._calls[name] += 1
        if self._calls[name] % self.accumulate == 0:
            self._step(name)

    def _step(self, name: str) -> None:
        parameters = self._parameters[name]
        if self.clip_norm is not None:
            self.gradient_norms[name] = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        elif self.measure:
            gradients = [p.grad for p in parameters if p.grad is not None]
            self.gradient_norms[name] = nn.utils.get_total_norm(gradients)
        self._steps[name]()
        # What optimizer.zero_grad does, without the profiler's record of it: a tenth of the step of
        # a small model.
        for parameter in parameters:
            parameter.grad = None
        if self.modifiers:
            with torch.no_grad():
                for modifier in self.modifiers:
                    modifier.after_update(name)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While inside, the task has the weights that it is evaluated and used with."""
        with ExitStack() as stack:
            for modifier in self.modifiers:
                stack.enter_context(modifier.evaluation_weights())
            yield

    def finish(self) -> None:
        """Step with what the run's last calls have accumulated, averaged over those calls."""
        for name, calls in self._calls.items():
            left = calls % self.accumulate
            if left:
                gradients = [p.grad for p in self._parameters[name] if p.grad is not None]
                torch._foreach_mul_(gradients, self.accumulate / left)
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

    def obstacle_to_recording(self) -> str:
        """Why no optimizer's step can be a part of a CUDA graph; nothing where all can."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                if not group.get("fused") and "capturable" not in group:
                    return f"{type(optimizer).__name__} decides something on the host"
        return ""

    def keep_rates_on(self, device: torch.device) -> None:
        """Hold learning rates as tensors on ``device``, which a CUDA graph reads anew each time."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=device)
                if "capturable" in group:
                    group["capturable"] = True

    def learning_rates(self) -> dict[str, float]:
        """The learning rate now in force, by group name."""
        return {n: float(o.param_groups[0]["lr"]) for n, o in self.optimizers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs: optimizer states, and gradients not yet used."""
        return {
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "calls": dict(self._calls),
            "gradients": {n: [p.grad for p in ps] for n, ps in self._parameters.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for parameter, gradient in zip(
                self._parameters[name], state["gradients"][name], strict=True
            ):
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self._calls, self._multiplier = dict(state["calls"]), None


def weights_of(task: Task) -> dict[str, list[nn.Parameter]]:
    """The parameters that decay and regularization may touch, by group name.

    Biases, scales and shifts (anything with fewer than two dimensions) and whatever belongs
    to a normalisation layer are left out.
    """
    norm_parameters = {
        parameter
        for module in task.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters()
    }
    return {
        name: [p for p in parameters if p.ndim > 1 and p.requires_grad and p not in norm_parameters]
        for name, parameters in task.parameter_groups().items()
    }


def with_decay_where_exact(
    settings: Mapping[str, Any],
    optimizer: type[torch.optim.Optimizer],
    regularizers: Iterable[Regularizer],
) -> tuple[float, list[Regularizer]]:
    """Return the weight decay to ask of ``optimizer``, and the penalties left over.

    An L2 penalty costs nothing inside an optimizer that adds ``weight_decay * w`` to the
    gradient. One with decoupled decay (AdamW; Loshchilov and Hutter 2019) does something
    else, so there, and in any that is not known, the penalty joins the loss.
    """
    parameter = inspect.signature(optimizer).parameters.get("weight_decay")
    default = 0.0 if parameter is None else parameter.default
    decay = float(settings.get("weight_decay", default))
    left = list(regularizers)
    l2 = sum(regularizer.weight_decay for regularizer in left)
    if not l2:
        return decay, left
    if optimizer in _COUPLED and not settings.get("decoupled_weight_decay", False):
        return decay + l2, left
    return decay, [*left, _L2Penalty(l2)]


class _L2Penalty(Regularizer):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        return self.strength / 2 * torch.stack([w.square().sum() for w in weights]).sum()
