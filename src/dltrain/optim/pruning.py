"""Pruning: weights of little magnitude are set to 0 while the others go on learning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dltrain.contracts.run import Group, Modifier, Progress
from dltrain.contracts.task import Task
from dltrain.optim.groups import groups_of
from dltrain.optim.patterns import PatternError, named_by

logger = logging.getLogger(__name__)


class Prune(Modifier):
    """Keep all but the largest weights at 0 (Han et al. 2015), at last the fraction ``sparsity``.

    Between ``begin`` and ``end``, fractions of the run's steps, it rises every ``every`` steps
    along the cubic of Zhu and Gupta 2017: ``sparsity (1 - (1 - t)³)``. With ``end`` equal to
    ``begin`` all are pruned at once. ``scope`` is where magnitudes are compared: over all weights
    (``global``), or within each ``layer``, which then loses the same fraction. ``parts`` are
    patterns (:func:`~dltrain.optim.patterns.named_by`) of what is pruned; null: every weight.
    Biases and norms are left alone, and are not counted.

    The masks are in the checkpoint. Evaluation weights, averages included, are pruned as well, and
    none are taken for the best before the last weight is pruned.

    Raises ValueError for what is no fraction, and for parts that name no weights.
    """

    replayable = False
    limits = True

    def __init__(
        self,
        sparsity: float = 0.9,
        scope: Literal["global", "layer"] = "global",
        begin: float = 0.2,
        end: float = 0.7,
        every: int = 100,
        parts: Sequence[str] | None = None,
    ) -> None:
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity is a fraction above 0 and below 1, got {sparsity}")
        if not 0 <= begin <= end <= 1:
            raise ValueError(
                f"begin and end are fractions of the run, in this order; got {begin} and {end}"
            )
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if parts is not None and not parts:
            raise ValueError("parts are one or more; null prunes every weight")
        self.sparsity, self.scope, self.parts = sparsity, scope, parts
        self.begin, self.end, self.every = begin, end, every
        self._task: Task | None = None
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}
        self._by_group: dict[str, list[str]] = {}
        self._done = False

    def attach(self, task: Task) -> None:
        """See that the task has those parts, and weights in them."""
        self._task = task
        weights = {weight for group in groups_of(task).values() for weight in group.weights}
        try:
            named = named_by(self.parts or (), task)
        except PatternError as error:
            raise ValueError(f"parts: {error}") from error
        for pattern, parameters in named.items():
            if not weights & set(parameters):
                raise ValueError(f"parts: all that {pattern!r} names is frozen, a bias or a norm")
        if not weights:
            raise ValueError("the network has no weights to prune")

    def start(self, groups: Mapping[str, Group]) -> None:
        """Prune nothing yet."""
        assert self._task is not None, "attach comes first"
        names = {parameter: name for name, parameter in self._task.named_parameters()}
        chosen = set(names)
        if self.parts is not None:
            chosen = {p for found in named_by(self.parts, self._task).values() for p in found}
        for group, (_, weights) in groups.items():
            inside = {names[weight]: weight for weight in weights if weight in chosen}
            self._by_group[group] = list(inside)
            self._weights |= inside
        for name, weight in self._weights.items():
            self._masks[name] = torch.ones_like(weight, dtype=torch.bool)

    def before_step(self, progress: Progress) -> None:
        """Prune where this step is one of those that do."""
        first = round(self.begin * progress.max_steps)
        # A run of which the last step is the end has made no step after it.
        last = min(round(self.end * progress.max_steps), progress.max_steps - 1)
        step = progress.step
        if step < min(first, last) or step > last or (step != last and (step - first) % self.every):
            return
        left = (last - step) / (last - first) if last > first else 0.0
        self._prune(self.sparsity * (1 - left**3))
        if step == last:
            self._done = True
            self._tell()

    @torch.no_grad()
    def after_update(self, name: str) -> None:
        """What is pruned stays 0, whatever the optimizer's momentum says."""
        for weight in self._by_group[name]:
            self._weights[weight].mul_(self._masks[weight])

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Averages of weights are pruned, too."""
        with torch.no_grad():
            kept = {name: weight.clone() for name, weight in self._weights.items()}
            for name, weight in self._weights.items():
                weight.mul_(self._masks[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(kept[name])

    @property
    def settled(self) -> bool:
        """Whether all is pruned that will be."""
        return self._done

    def scalars(self) -> Mapping[str, float]:
        """``sparsity``: the fraction of the weights that are pruned."""
        kept = torch.stack([mask.sum() for mask in self._masks.values()]).sum()
        return {"sparsity": 1 - int(kept) / sum(mask.numel() for mask in self._masks.values())}

    def state_dict(self) -> dict[str, Any]:
        """The masks by name in the task: false where a weight is pruned."""
        return {"masks": dict(self._masks), "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name, mask in self._masks.items():
            mask.copy_(state["masks"][name])
        self._done = bool(state["done"])

    @torch.no_grad()
    def _prune(self, sparsity: float) -> None:
        """Have the fraction ``sparsity`` pruned; what is pruned already stays so."""
        names = list(self._weights)
        for part in [names] if self.scope == "global" else [[name] for name in names]:
            # Below all others comes what is pruned already.
            sizes = [self._weights[name].abs().where(self._masks[name], -1.0) for name in part]
            flat = torch.cat([size.flatten() for size in sizes])
            count = round(sparsity * len(flat))
            kept = flat >= 0
            # Stable, so that equal magnitudes are the same ones on every device.
            kept[flat.sort(stable=True).indices[:count]] = False
            for name, mask in zip(part, kept.split([size.numel() for size in sizes]), strict=True):
                self._masks[name].copy_(mask.view_as(self._masks[name]))
        for name, weight in self._weights.items():
            weight.mul_(self._masks[name])

    def _tell(self) -> None:
        """How much is left, and where nothing is."""
        left = {name: int(mask.sum()) for name, mask in self._masks.items()}
        count = sum(mask.numel() for mask in self._masks.values())
        logger.info("prune: %s of %s weights are left.", f"{sum(left.values()):,}", f"{count:,}")
        empty = [name.removeprefix("model.") for name, weights in left.items() if not weights]
        if empty:
            logger.warning(
                "prune: nothing is left of %s: what comes after it is the same for every input. "
                "Lower modifiers.prune.sparsity, or set scope=layer.",
                ", ".join(empty),
            )
