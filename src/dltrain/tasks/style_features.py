"""What sees content and style in images: VGG-19, or the network of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dltrain.contracts.other_run import OtherRun
from dltrain.errors import UserError
from dltrain.models.vision.vgg_features import TORCHVISION, LayerOutputs, vgg19
from dltrain.tasks.run_features import RunFeatures

Layers = Sequence[str] | Mapping[str, float]
"""Names of layers, or a weight for each."""


class StyleFeatures:
    """A trained network, asked for the outputs of its layers by name.

    ``source`` is ``vgg19`` (torchvision's, downloaded), a file of VGG-19, or a run. Training opens
    it; it is no module, so that no checkpoint has its weights.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._run: RunFeatures | None = None
        self._network: LayerOutputs | None = None

    def others(self) -> Mapping[str, OtherRun]:
        """The run whose network it is, where it is one."""
        if self._source == TORCHVISION or Path(self._source).expanduser().is_file():
            return {}
        self._run = RunFeatures(self._source)
        return {"features": self._run}

    @property
    def opened(self) -> bool:
        """Whether it can be asked: not where a trained run is merely used."""
        return self._network is not None or (self._run is not None and bool(self._run.digest))

    def open(self, device: torch.device) -> None:
        """Have the network. Raises :class:`UserError` where there is none."""
        if self._run is not None or self._network is not None:
            return
        try:
            network = vgg19(self._source)
        except UserError as error:
            raise UserError(f"task.{error}") from error
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        self._network = network.to(device)

    def __call__(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """The outputs of the layers ``wanted``, by name, for images (n, 3, h, w) of 0..1.

        Raises :class:`UserError` for a layer that is not there.
        """
        if self._run is not None:
            return self._run.outputs(images, wanted)
        network = self._network
        assert network is not None, "training opens it"
        missing = [name for name in wanted if name not in network.names]
        if missing:
            raise UserError(
                f"task: {self._source} has no layer {missing[0]!r}; it has "
                f"{', '.join(name for name in network.names if name)}."
            )
        return network(images, wanted)


def weighted(name: str, layers: Layers) -> dict[str, float]:
    """A weight for each layer of the argument ``name``. Raises ValueError for none, or below 0."""
    if not layers:
        raise ValueError(f"{name} are one or more")
    found = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if min(found.values()) < 0:
        raise ValueError(f"{name} have weights >= 0, got {found}")
    return found


def require_weights(**weights: float) -> dict[str, float]:
    """The weights by name. Raises ValueError for one below 0."""
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} must be >= 0, got {weight}")
    return weights
