"""Attacks along the gradient of the loss: FGSM and PGD."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dltrain.contracts.attack import Attack, AttackScores, Scores
from dltrain.contracts.data import DataSpec
from dltrain.models.layers.denormalize import Pixels

Norm = Literal["linf", "l2"]


class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018): ``steps`` up the loss, within ``epsilon``.

    ``epsilon`` bounds the largest change of a value (``norm=linf``) or the Euclidean norm of an
    example's change (``l2``). It is in units of images of 0..1, and so changed images stay in that
    range; of numbers, in those that the network reads. Each step is ``step_size`` long (null: 2.5
    epsilon over the number of steps), along the gradient's sign or direction. It begins anywhere
    within epsilon (``random_start``) or at the example itself; ``restarts`` more beginnings are
    tried in an evaluation, and of all that was met on the way the worst counts.

    Raises ValueError for what is neither image nor number, and for values out of range.
    """

    def __init__(
        self,
        spec: DataSpec,
        epsilon: float = 0.3,
        steps: int = 40,
        step_size: float | None = None,
        restarts: int = 0,
        norm: Norm = "linf",
        random_start: bool = True,
    ) -> None:
        if not epsilon >= 0:
            raise ValueError(f"epsilon must be >= 0, got {epsilon}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if restarts < 0:
            raise ValueError(f"restarts must be >= 0, got {restarts}")
        if restarts and not random_start:
            raise ValueError("restarts would all begin alike: random_start=true, or restarts=0")
        if step_size is not None and not step_size > 0:
            raise ValueError(f"step_size must be above 0, got {step_size}")
        source = spec.input
        if source.kind not in ("image", "number"):
            raise ValueError(
                f"attacks change images and numbers, and this data's input is {source.kind}"
            )
        self.epsilon, self.steps, self.restarts = epsilon, steps, restarts
        self.step_size = 2.5 * epsilon / steps if step_size is None else step_size
        self.norm, self.random_start = norm, random_start
        self._pixels = Pixels(source) if source.kind == "image" else None

    def perturbed(
        self, scores: Scores, inputs: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """What the last step comes to."""
        box, values = self._box(inputs), self._values(inputs)
        changed = box.begin(generator, self.random_start)
        for _ in range(self.steps):
            changed = self._step(scores, box, changed, values)[0]
        return self._inputs(changed, values)

    def strongest(self, scores: Scores, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """The worst of all steps of all restarts, and of the example itself."""
        box, values = self._box(inputs), self._values(inputs)
        worst = box.clean.clone()
        with torch.no_grad():
            highest = _severity(scores(self._inputs(worst, values)))
        for _ in range(self.restarts + 1):
            changed = box.begin(generator, self.random_start)
            for _ in range(self.steps):
                after, found = self._step(scores, box, changed, values)
                _keep(worst, highest, changed, _severity(found))
                changed = after
            with torch.no_grad():
                _keep(worst, highest, changed, _severity(scores(self._inputs(changed, values))))
        return self._inputs(worst, values)

    def _step(
        self, scores: Scores, box: _Box, changed: Tensor, values: Pixels | None
    ) -> tuple[Tensor, AttackScores]:
        """The next point, and what was found at the one before."""
        changed = changed.detach().requires_grad_()
        found = scores(self._inputs(changed, values))
        (gradient,) = torch.autograd.grad(found.losses.sum(), changed)
        if self.norm == "linf":
            way = gradient.sign()
        else:
            way = gradient / _norms(gradient).clamp_min(1e-12)
        after = box.projected(changed.detach() + self.step_size * way)
        return after, AttackScores(found.losses.detach(), found.wrong)

    def _box(self, inputs: Tensor) -> _Box:
        pixels = self._values(inputs)
        clean = inputs.detach().float()
        if pixels is None:
            return _Box(clean, self.epsilon, self.norm, None)
        return _Box(clean * pixels.std + pixels.mean, self.epsilon, self.norm, (0.0, 1.0))

    def _values(self, inputs: Tensor) -> Pixels | None:
        """What brings images to 0..1 and back, where they lie."""
        return None if self._pixels is None else self._pixels.to(inputs.device)

    def _inputs(self, changed: Tensor, pixels: Pixels | None) -> Tensor:
        return changed if pixels is None else pixels.normalized(changed)


class FGSM(PGD):
    """The fast gradient sign method (Goodfellow et al. 2015): one step of length ``epsilon``.

    From the example itself; with ``norm=l2`` along the gradient's direction. Raises as PGD does.
    """

    def __init__(self, spec: DataSpec, epsilon: float = 0.3, norm: Norm = "linf") -> None:
        size = epsilon if epsilon > 0 else None
        super().__init__(spec, epsilon, 1, size, 0, norm, random_start=False)


class _Box:
    """All that is within ``epsilon`` of ``clean`` (batch, …), and in the range of values."""

    def __init__(
        self, clean: Tensor, epsilon: float, norm: Norm, values: tuple[float, float] | None
    ) -> None:
        self.clean, self._epsilon, self._norm = clean, epsilon, norm
        self._bounds: tuple[Tensor, Tensor] | None = None
        if values is not None:
            # Augmentation may have left the range already; that is no change of the attack's.
            self._bounds = clean.clamp_max(values[0]), clean.clamp_min(values[1])

    def begin(self, generator: torch.Generator | None, random: bool) -> Tensor:
        """A point drawn evenly from within, or the example itself."""
        if not random or not self._epsilon:
            return self.clean.clone()
        # In an evaluation every device draws the same noise, from a generator on the CPU.
        device = self.clean.device if generator is None else torch.device("cpu")
        if self._norm == "linf":
            noise = torch.rand(self.clean.shape, generator=generator, device=device) * 2 - 1
        else:
            noise = torch.randn(self.clean.shape, generator=generator, device=device)
            size = self.clean[0].numel()
            lengths = torch.rand(len(noise), generator=generator, device=device) ** (1 / size)
            lengths = lengths.view(-1, *[1] * (noise.ndim - 1))
            noise = noise / _norms(noise).clamp_min(1e-12) * lengths
        return self.projected(self.clean + self._epsilon * noise.to(self.clean.device))

    def projected(self, changed: Tensor) -> Tensor:
        """The nearest point within."""
        difference = changed - self.clean
        if self._norm == "linf":
            difference = difference.clamp(-self._epsilon, self._epsilon)
        else:
            factor = self._epsilon / _norms(difference).clamp_min(1e-12)
            difference = difference * factor.clamp_max(1.0)
        changed = self.clean + difference
        if self._bounds is not None:
            changed = changed.clamp(*self._bounds)
        return changed


def _norms(values: Tensor) -> Tensor:
    """(batch, 1, …): Euclidean, of each example."""
    return values.flatten(1).norm(dim=1).view(-1, *[1] * (values.ndim - 1))


def _severity(found: AttackScores) -> Tensor:
    """(batch, 2): first whether it is a mistake, then by how much."""
    return torch.stack([found.wrong.double(), found.losses.detach().double()], 1)


def _keep(worst: Tensor, highest: Tensor, changed: Tensor, severity: Tensor) -> None:
    """Put into ``worst`` what is worse there, and into ``highest`` how bad."""
    mistakes, before = severity[:, 0], highest[:, 0]
    worse = (mistakes > before) | ((mistakes == before) & (severity[:, 1] > highest[:, 1]))
    worst[worse] = changed.detach()[worse]
    highest[worse] = severity[worse]
