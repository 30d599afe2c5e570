"""Muon: momentum whose direction is made orthogonal, for the matrices of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.errors import require_at_least

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that is applied to the singular values (Jordan et al. 2024)."""
RMS = 0.2
"""Root mean square that an update has at a rate of 1, as Adam's usually has (Liu et al. 2025)."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, for what has two dimensions or more; Adam for the rest.

    A kernel of a convolution is the matrix of its filters, flat. The momentum ``U S V'`` is
    replaced by about ``U V'``, by ``iterations`` of a quintic Newton-Schulz iteration that brings
    all singular values near 1 (Jordan et al. 2024), so that directions which matter little to the
    gradient are learned too. It is then brought to the size of an Adam update (Liu et al. 2025,
    section 2.2), so one ``lr`` serves both, and rates that are right for AdamW are right here.
    Weight decay is decoupled, as AdamW's. ``betas`` and ``eps`` are those of the Adam part.

    Raises ValueError for rates and fractions that are none.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        iterations: int = 5,
        weight_decay: float = 0.01,
    ) -> None:
        require_at_least(0, lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is from 0 to below 1, got {momentum}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, got {list(betas)}")
        if iterations < 1:
            raise ValueError(f"iterations is at least 1, got {iterations}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": tuple(betas),
            "eps": eps,
            "iterations": iterations,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"] and trained:
                torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            self._step_matrices([p for p in trained if p.ndim > 1], group)
            self._step_vectors([p for p in trained if p.ndim < 2], group)
        return loss

    def _step_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Matrices of one shape are orthogonalized together."""
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            mean = state.setdefault("momentum", torch.zeros_like(parameter))
            mean.lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(mean, group["momentum"]).flatten(1)
            shapes.setdefault((ahead.shape[0], ahead.shape[1]), []).append((parameter, ahead))
        for shape, members in shapes.items():
            updates = orthogonal(torch.stack([ahead for _, ahead in members]), group["iterations"])
            size = RMS * max(shape) ** 0.5
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)

    def _step_vectors(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Adam (Kingma and Ba 2015)."""
        first, second = group["betas"]
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = (torch.zeros_like(parameter) for _ in range(2))
            state["step"] += 1
            step = float(state["step"])  # it lies on the CPU
            mean = state["mean"].lerp_(gradient, 1 - first)
            square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
            root = (square / (1 - second**step)).sqrt_().add_(group["eps"])
            parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**step))


def orthogonal(matrices: Tensor, iterations: int) -> Tensor:
    """Matrices (n, rows, columns) with the same singular vectors, and values of about 1."""
    wide = matrices.shape[1] <= matrices.shape[2]
    # In bfloat16 where that is fast: the iteration is meant for it.
    kind = torch.bfloat16 if matrices.is_cuda else torch.float32
    x = (matrices if wide else matrices.mT).to(kind)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    very_wide = x.shape[2] >= 2 * x.shape[1]
    x = (
        _by_products(x, iterations)
        if very_wide and kind is torch.float32
        else _by_steps(x, iterations)
    )
    return (x if wide else x.mT).to(matrices.dtype)


def _by_steps(x: Tensor, iterations: int) -> Tensor:
    """Newton-Schulz: x becomes ``(a + b G + c G²) x``, G being ``x xᵀ``, so many times."""
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_products(x: Tensor, iterations: int) -> Tensor:
    """The same by G alone, which is smaller than x: each step's factor P makes ``P G P`` of it.

    All factors are polynomials of the first G, so their order does not matter. The rounding of G
    grows with the iterations: for float32.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    product = None
    for step in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < iterations - 1:
            gram = factor @ gram @ factor
    return x if product is None else product @ x
