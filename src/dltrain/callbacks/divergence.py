"""Says when one of two networks has won, and the other can no longer learn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Setup, View
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

ACCURACIES = ("accuracy_real", "accuracy_fake")
ADVICE = (
    "Samples will be noise. Try a lower rate for the discriminator (optimizer.discriminator.lr), "
    "another loss (task.loss=hinge, or model=wgan_gp), task.label_smoothing=0.1, or "
    "model.spectral_norm=true."
)


class Divergence(Callback):
    """Warns of a discriminator that wins outright: on the console, in the log, and at the end.

    That is so when ``patience`` evaluations in a row have one of two signs: it is right about at
    least ``accuracy`` of the real and as much of the generated images (null: that is no sign), or
    the norm of the generator's gradient is below ``vanished`` of the largest there was. The
    validation split is evaluated where there is one, else the training means. A loss that does not
    saturate leaves a generator its gradient however clearly it has lost, so either sign will do.
    """

    def __init__(
        self, patience: int = 3, accuracy: float | None = 0.99, vanished: float = 1e-4
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience is at least 1, got {patience}")
        if accuracy is not None and not 0 < accuracy <= 1:
            raise ValueError(f"accuracy is a fraction above 0, or null; got {accuracy}")
        if not 0 <= vanished < 1:
            raise ValueError(f"vanished is a fraction from 0 to below 1, got {vanished}")
        self.patience, self.accuracy, self.vanished = patience, accuracy, vanished
        self._largest = 0.0
        self._norm: float | None = None
        self._seen = 0
        self._sign = ""

    def check(self, setup: Setup) -> None:
        if not {"generator", "discriminator"} <= set(setup.groups):
            raise UserError(
                "callbacks.divergence: it watches a generator and a discriminator, which this "
                "task does not have; leave it out of callbacks."
            )
        if self.accuracy is None or "validation" not in setup.splits:
            return
        missing = [name for name in ACCURACIES if name not in setup.metrics]
        if missing:
            raise UserError(
                "callbacks.divergence: this task's evaluation gives no "
                f"{' and no '.join(missing)}; "
                "set callbacks.divergence.accuracy=null, or leave it out of callbacks."
            )

    def log(self, view: View, values: Mapping[str, float]) -> None:
        self._norm = values.get("gradient_norm/generator", self._norm)
        self._largest = max(self._largest, self._norm or 0.0)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Count evaluations with a sign; say so when there are enough, and again at the end."""
        if split == "test" and self._seen >= self.patience:
            logger.warning(self._warning())
        if split != ("validation" if "validation" in view.splits else "train"):
            return
        self._sign = self._find(evaluation.scalars)
        self._seen = self._seen + 1 if self._sign else 0
        if self._seen == self.patience:
            logger.warning(self._warning())

    def state_dict(self) -> dict[str, Any]:
        return {
            "largest": self._largest,
            "norm": self._norm,
            "seen": self._seen,
            "sign": self._sign,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._largest, self._norm = state["largest"], state["norm"]
        self._seen, self._sign = state["seen"], state["sign"]

    def _find(self, scalars: Mapping[str, float]) -> str:
        """What speaks for a discriminator that has won; empty where nothing does."""
        real, made = (scalars.get(name, 0.0) for name in ACCURACIES)
        if self.accuracy is not None and min(real, made) >= self.accuracy:
            seen = f"{real:.1%} of the real images and {made:.1%} of the generated"
            return f"it is right about {seen}"
        if self._norm is not None and self._norm < self.vanished * self._largest:
            return f"the generator's gradient has vanished (norm {self._norm:.1e})"
        return ""

    def _warning(self) -> str:
        return f"the discriminator has won: for {self._seen} evaluations {self._sign}. {ADVICE}"
