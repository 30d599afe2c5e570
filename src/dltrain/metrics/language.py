"""How well a text is predicted, whatever it was cut into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric, Mode, Outputs

if TYPE_CHECKING:
    from typing_extensions import Self

PARTS = ("nll", "tokens", "characters", "bytes")
LARGEST = math.log(1e300)
"""A loss beyond which the perplexity is no number any more."""


class TextLikelihood(Metric):
    """The mean ``loss`` of a token in nats, its ``perplexity``, ``bits_per_character``, ``_byte``.

    The outputs have ``nll`` (rows,), the negative log-likelihood of each row's tokens in nats; the
    batch has how many ``tokens``, ``characters`` and ``bytes`` (rows,) these are. Bits can be
    compared between vocabularies, the others cannot.
    """

    names = ("loss", "perplexity", "bits_per_character", "bits_per_byte")
    better: Mapping[str, Mode] = MappingProxyType(
        {"loss": "min", "perplexity": "min", "bits_per_character": "min", "bits_per_byte": "min"}
    )

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor]] = {name: [] for name in PARTS}

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's four sums."""
        for name, sums in self._sums.items():
            column = outputs["nll"] if name == "nll" else batch[name]
            sums.append(column.sum(dtype=torch.float32 if name == "nll" else None))

    def merge(self, other: Self) -> None:
        """Keep the other's sums."""
        for name, sums in self._sums.items():
            sums += other._sums[name]

    def compute(self) -> Evaluation:
        """The four means."""
        nll, tokens, characters, size = (
            math.fsum(torch.stack(self._sums[name]).tolist()) for name in PARTS
        )
        loss, bits = nll / tokens, nll / math.log(2)
        scalars = {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < LARGEST else math.inf,
            "bits_per_character": bits / characters,
            "bits_per_byte": bits / size,
        }
        return Evaluation(scalars=scalars, weights={"loss": round(tokens)})

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {name: list(sums) for name, sums in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._sums = {name: list(state[name]) for name in PARTS}
