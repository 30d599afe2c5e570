"""Learn what another run says of the same examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.other_run import OtherRun
from dltrain.contracts.paths import PathOrName
from dltrain.contracts.task import Metrics, Optimize, Task
from dltrain.errors import UserError
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.similarity import similarity_loss
from dltrain.tasks.supervised import Supervised

LISTED = 12
"""Layers that are named where one is not there."""


class Distillation(Classification):
    """Classification that is taught by ``teacher``, a trained run (Hinton et al. 2015).

    To the cross-entropy of the targets comes that of the teacher's classes, both softened by
    ``temperature``: ``(1 - alpha) CE + alpha T² KL(teacher ‖ student)``. The teacher, a run of the
    same classes and inputs, sees each batch as it was augmented. It is open in training alone: the
    run that was taught is used without it.

    ``features`` maps layers of the network to layers of the teacher's: how alike the examples of a
    batch are in the one, they are to be in the other (:func:`similarity_loss`, Tung and Mori 2019),
    with ``feature_weight``. Any two layers of any shapes will do.

    Raises ValueError for a weight or temperature that is none, and for layers that are not there.
    """

    replayable = False  # a recorded step would not see the hooks

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        teacher: PathOrName,
        temperature: float = 4.0,
        alpha: float = 0.9,
        features: Mapping[str, str] | None = None,
        feature_weight: float = 1000.0,
        **classification: Any,
    ) -> None:
        super().__init__(model, spec, **classification)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is a fraction from 0 to 1, got {alpha}")
        if feature_weight < 0:
            raise ValueError(f"feature_weight must be >= 0, got {feature_weight}")
        self.temperature, self.alpha, self.feature_weight = temperature, alpha, feature_weight
        for layer in features or {}:
            _layer(self.model, layer, "the network")
        self._teacher = Teacher(teacher, spec, features or {}, self.model)

    def others(self) -> Mapping[str, OtherRun]:
        """The teacher."""
        return {"teacher": self._teacher}

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize both cross-entropies, and what the layers differ by."""
        soft_targets = self._teacher.logits(batch)
        logits, targets = self.model(*self.spec.inputs(batch)), batch["target"]
        hard = self.loss(logits, targets)
        soft = self.soft_loss(logits, soft_targets)
        loss = (1 - self.alpha) * hard + self.alpha * soft
        parts: dict[str, Tensor] = {}
        if self._teacher.layers:
            features = self._teacher.feature_loss()
            loss = loss + self.feature_weight * features
            parts["feature_loss"] = features.detach()
        optimize(loss)
        agreed = logits.detach().argmax(1) == soft_targets.argmax(1)
        return {
            **self.training_metrics(loss, logits, targets),
            "soft_loss": soft.detach(),
            **parts,
            "agreement": agreed.mean(dtype=torch.float32),
        }

    def soft_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """T² times the mean divergence of softened classes, 0-d, of logits (batch, classes)."""
        return self.temperature**2 * functional.kl_div(
            functional.log_softmax(logits.float() / self.temperature, 1),
            functional.log_softmax(teacher.float() / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )

    def training_state(self) -> dict[str, Any]:
        """Whose answers were learned so far."""
        return {"teacher": self._teacher.digest}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Raise :class:`UserError` where the teacher is not what it was."""
        if state["teacher"] != self._teacher.digest:
            raise UserError(
                f"task.teacher: {self._teacher.run} has other weights than when this run began; "
                "a resumed run would not be the same. Train a new one."
            )


class Teacher(OtherRun):
    """A classifier of another run, asked for its logits of a batch as the student has it.

    ``layers`` maps layers of ``student`` to the teacher's own.
    """

    def __init__(
        self, run: str, spec: DataSpec, layers: Mapping[str, str], student: nn.Module
    ) -> None:
        super().__init__(run)
        self._spec, self.layers = spec, dict(layers)
        self._student = [student]  # in a list, for it is no part of the teacher
        self._places: Tensor | None = None
        self._pixels: tuple[Pixels, Pixels] | None = None
        self._seen: dict[tuple[str, str], Tensor] = {}

    def open(self, task: Task, spec: DataSpec) -> None:
        """See that it knows the same classes and reads the same inputs."""
        self._require_alike(spec)
        super().open(task, spec)
        classifier = task.task if isinstance(task, Supervised) else task
        if not isinstance(classifier, Classification):
            raise ValueError(
                f"the teacher {self.run} is no classifier: its task is {type(task).__name__}"
            )
        device = next((p.device for p in task.parameters()), torch.device("cpu"))
        own, theirs = self._spec.target.names, spec.target.names
        if own != theirs:
            self._places = torch.tensor([theirs.index(name) for name in own], device=device)
        source, other = self._spec.of("input")[0], spec.of("input")[0]
        if (source.mean, source.std) != (other.mean, other.std):
            self._pixels = Pixels(source).to(device), Pixels(other).to(device)
        for mine, its in self.layers.items():
            self._watch("student", mine, _layer(self._student[0], mine, "the network"))
            self._watch("teacher", mine, _layer(classifier.model, its, "the teacher"))

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """What it says of the batch: (batch, classes), in the student's order of classes."""
        if self._pixels is not None:
            own, theirs = self._pixels
            # Not clipped: what augmentation makes of images may go beyond 0..1.
            images = batch["input"] * own.std + own.mean
            batch = {**batch, "input": theirs.normalized(images)}
        logits = self.task.forward(batch)["logits"]
        return logits if self._places is None else logits[:, self._places]

    def feature_loss(self) -> Tensor:
        """The mean over the pairs of layers, 0-d, of the batch that both networks saw last."""
        losses = [
            similarity_loss(self._seen.pop(("student", name)), self._seen.pop(("teacher", name)))
            for name in self.layers
        ]
        return torch.stack(losses).mean()

    def _watch(self, whose: str, name: str, layer: nn.Module) -> None:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled() or whose == "teacher":
                self._seen[whose, name] = output

        layer.register_forward_hook(keep)

    def _require_alike(self, spec: DataSpec) -> None:
        """Raise ValueError where classes or inputs are others."""
        own, theirs = self._spec.of("target"), spec.of("target")
        if [field.kind for field in theirs] != ["class"] or _classes(own[0]) != _classes(theirs[0]):
            raise ValueError(
                f"the teacher {self.run} knows {_said(theirs)}, and this data has {_said(own)}"
            )
        mine, its = self._spec.of("input"), spec.of("input")
        images = [field.kind for field in mine] == ["image"]
        bare = [[_bare(field, images) for field in fields] for fields in (mine, its)]
        if bare[0] != bare[1]:
            raise ValueError(
                f"the teacher {self.run} reads {_shapes(its)}, and this data has {_shapes(mine)}"
                f"{_difference(*bare)}"
            )


def _bare(field: Field, images: bool) -> Field:
    """What has to be the same of an input; of images, mean and std can be undone."""
    plain = replace(field, counts=())
    return replace(plain, mean=(), std=()) if images else plain


def _difference(mine: list[Field], its: list[Field]) -> str:
    """What else than kind and shape is another."""
    for own, other in zip(mine, its, strict=False):
        for name in ("names", "size", "fill", "mean", "std", "transform"):
            if getattr(own, name) != getattr(other, name):
                return f", with other {name}"
    return ""


def _classes(field: Field) -> list[str]:
    return sorted(field.names) if field.names else [str(field.size)]


def _said(targets: list[Field]) -> str:
    if [field.kind for field in targets] != ["class"]:
        return "no classes"
    names = targets[0].names
    some = f" ({', '.join(names[:LISTED])}{', …' if len(names) > LISTED else ''})" if names else ""
    return f"{targets[0].size} classes{some}"


def _shapes(fields: list[Field]) -> str:
    return ", ".join(
        f"{field.kind} {'x'.join('?' if side is None else str(side) for side in field.shape)}"
        for field in fields
    )


def _layer(network: nn.Module, name: str, whose: str) -> nn.Module:
    try:
        if not name:
            raise AttributeError
        return network.get_submodule(name)
    except AttributeError:
        names = [own for own, _ in network.named_modules() if own]
        more = ", …" if len(names) > LISTED else ""
        raise ValueError(
            f"features: {whose} has no layer {name!r}; it has {', '.join(names[:LISTED])}{more}"
        ) from None
