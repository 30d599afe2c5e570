"""AdamW whose running means take one byte a weight instead of four; the numbers are torchao's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

LEAST = 4096
"""Values of a tensor below which its means stay whole: there is little to save."""
BLOCK = 256
"""Values that have a scale together."""
PIECE = BLOCK * 4096
"""Values that are updated at once: rounding takes some 50 bytes for each on the way."""
MEANS = ("exp_avg", "exp_avg_sq")


class AdamW8bit(torch.optim.Optimizer):
    """AdamW with its running means in 8 bits (Dettmers et al. 2022), by torchao.

    Each block of 256 values is divided by its largest, and rounded to 256 levels that are close to
    each other near 0. The update itself is computed in float32. Tensors with fewer than 4,096
    values, or a number of values that 256 does not divide, keep means in float32: how many is told.
    ``compile`` has torch.compile make one kernel of an update: on a CUDA device much faster than
    the many that it else takes.

    Raises ValueError for rates and fractions that are none, and where torchao is not installed.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        compile: bool = False,
    ) -> None:
        require_at_least(0, lr=lr, eps=eps, weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, got {list(betas)}")
        self._zeros, update = _torchao()
        self._compiled = compile
        self._update = torch.compile(update, fullgraph=True, dynamic=False) if compile else update
        self._told = False
        rates = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, rates)
        self._sizes = [(p.numel(), _fits(p)) for p in self._parameters()]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        if not self._told:
            self._tell()
        return loss

    def _step(self, parameter: Tensor, group: Mapping[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            for name in MEANS:
                state[name] = self._mean(parameter, name)
        state["step"] += 1
        rate = group["lr"]
        rate = rate if isinstance(rate, Tensor) else torch.tensor(rate)
        means = [state[name] for name in MEANS]
        for part in self._pieces(parameter.detach(), gradient, *means):
            weights, slope, *moved = part
            self._update(
                *(weights, slope, state["step"], *moved, None, rate, *group["betas"]),
                *(group["weight_decay"], group["eps"], True, False),
            )

    def _pieces(self, *tensors: Tensor) -> Iterator[Sequence[Tensor]]:
        """Parts of equal places, whose numbers on the way take little; one where it is compiled."""
        parameter, gradient, *means = tensors
        whole = self._compiled or not _fits(parameter) or parameter.numel() <= PIECE
        if whole or not (parameter.is_contiguous() and gradient.is_contiguous()):
            yield tensors
            return
        for begin in range(0, parameter.numel(), PIECE):
            places = slice(begin, begin + PIECE)
            yield (
                *(one.view(-1)[places] for one in (parameter, gradient)),
                *(_piece(mean, places) for mean in means),
            )

    def _mean(self, parameter: Tensor, name: str) -> Tensor:
        """Zeros, in bytes where ``parameter`` is large enough."""
        if not _fits(parameter):
            return torch.zeros_like(parameter)
        signed = name == "exp_avg"
        zeros: Tensor = self._zeros(
            parameter.shape, signed, BLOCK, parameter.device, dtype=parameter.dtype
        )
        return zeros

    def _tell(self) -> None:
        self._told = True
        total = sum(size for size, _ in self._sizes)
        small = sum(size for size, fits in self._sizes if not fits)
        logger.info(
            "optimizer: the means of %s of %s weights are in 8 bits; those of %s, in tensors of "
            "fewer than %s values or a number that %s does not divide, are in float32.",
            *(f"{total - small:,}", f"{total:,}", f"{small:,}", f"{LEAST:,}", BLOCK),
        )

    def state_dict(self) -> dict[str, Any]:
        """As ever, with plain tensors: ``codes`` and ``scale`` of what is in bytes."""
        whole = super().state_dict()
        state = {
            number: {name: _plain(value) for name, value in one.items()}
            for number, one in whole["state"].items()
        }
        return {**whole, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        steps = {n: {"step": one["step"]} for n, one in state_dict["state"].items()}
        super().load_state_dict({**state_dict, "state": steps})
        for number, parameter in enumerate(self._parameters()):
            saved = state_dict["state"].get(number, {})
            for name in MEANS if saved else ():
                self.state[parameter][name] = mean = self._mean(parameter, name)
                for part, value in _parts(mean, saved[name]):
                    part.copy_(value)

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]


def _fits(parameter: Tensor) -> bool:
    return parameter.numel() >= LEAST and parameter.numel() % BLOCK == 0


def _piece(mean: Any, places: slice) -> Tensor:
    """Some of the values of a mean in bytes, which are the same memory."""
    scale = mean.scale[places.start // BLOCK : places.stop // BLOCK]
    codes = mean.codes.view(-1)[places]
    part: Tensor = type(mean)(codes, scale, mean.qmap, mean.signed, dtype=mean.dtype)
    return part


def _plain(value: Any) -> Any:
    """A tensor of torchao's by its parts."""
    return {n: getattr(value, n) for n in ("codes", "scale")} if hasattr(value, "codes") else value


def _parts(mean: Any, saved: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor of ``mean`` beside what was saved of it."""
    if isinstance(saved, Mapping):
        yield from ((getattr(mean, name), saved[name]) for name in ("codes", "scale"))
    else:
        yield mean, saved


def _torchao() -> tuple[Callable[..., Tensor], Callable[..., None]]:
    """What makes means in bytes, and AdamW's update of one parameter with them."""
    said = logging.getLogger("torch.utils._pytree")  # torchao's affair, not the user's
    level = said.level
    said.setLevel(logging.ERROR)
    try:
        from torchao.optim.adam import single_param_adam
        from torchao.optim.subclass_8bit import OptimState8bit
    except ImportError as error:
        raise ValueError("8 bits need torchao: pip install 'dltrain[torchao]'") from error
    finally:
        said.setLevel(level)
    return OptimState8bit.zeros, single_param_adam
