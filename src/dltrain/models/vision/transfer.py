"""Begin with weights that were learned elsewhere, and keep some of them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dltrain.config.suggest import did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGENET = "imagenet"


class Freezable(nn.Module):
    """A network of which parts can be kept as they are while the rest is trained."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[str] = []

    def freeze(self, names: Sequence[str]) -> None:
        """Keep the named parts: no gradient, no dropout, and no new batch norm statistics.

        Raises ValueError for a part that is not there, and if nothing is left to train.
        """
        parts = [name for name, _ in self.named_modules() if name]
        for name in names:
            if name not in parts:
                top = [name for name, _ in self.named_children()]
                hint = did_you_mean(name, parts) or f"There are {', '.join(top)}."
                raise ValueError(f"freeze: the network has no part {name!r}. {hint}")
            self.get_submodule(name).requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError("freeze: nothing of the network is left to train")
        self._frozen = list(names)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, the frozen parts left in evaluation."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self


def read_weights(architecture: str, source: str) -> Mapping[str, Tensor]:
    """The weights of torchvision's ``architecture``, layer by layer.

    ``source`` is ``imagenet`` (torchvision's newest, downloaded once to torch's cache) or a file
    that holds such weights. Raises ValueError where they cannot be had.
    """
    if source == IMAGENET:
        from torchvision.models import get_model_weights

        newest = get_model_weights(architecture)["DEFAULT"]
        try:
            return newest.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
            )
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"pretrained: {newest.url} could not be downloaded ({error}). Fetch it elsewhere "
                "and give the file: model.pretrained=PATH"
            ) from error
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f"pretrained: there is no file {source!r}; give a path, or {IMAGENET!r}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"pretrained: {path} is no file of torch's weights") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"pretrained: {path} holds something else than the weights of a network")
    return weights


@torch.no_grad()
def fill(network: nn.Module, weights: Mapping[str, Tensor], hint: str) -> None:
    """Copy ``weights`` into ``network``, matched by their order, for names differ.

    The last layer, weight and bias, keeps its initial values if the classes are others in number.
    Raises ValueError, ending in ``hint``, where anything else does not match.
    """
    own = list(network.named_parameters())
    if len(own) != len(weights):
        raise ValueError(
            f"pretrained: those are {len(weights)} tensors, this network has {len(own)}. {hint}"
        )
    pairs = list(zip(own, weights.items(), strict=True))
    last = {name for name, _ in own[-2:]}
    for (name, parameter), (their_name, theirs) in pairs:
        if parameter.shape == theirs.shape:
            continue
        if name not in last or parameter.shape[1:] != theirs.shape[1:]:
            raise ValueError(
                f"pretrained: {their_name} is {_size(theirs)}, this network's {name} "
                f"{_size(parameter)}. {hint}"
            )
    for (_, parameter), (_, theirs) in pairs:
        if parameter.shape == theirs.shape:
            parameter.copy_(theirs)


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
