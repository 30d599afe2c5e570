"""Begin with weights that were learned elsewhere, and keep some of them."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.tensor_files import read_tensors, reason

if TYPE_CHECKING:
    from typing_extensions import Self

ROUNDED = 0.005
"""Means and stds that differ by less are the same, rounded."""

AGAIN = 60.0
"""Seconds before a failed download is tried again: a model is made for several sizes in turn."""

logger = logging.getLogger(__name__)
_failed: dict[Path, tuple[float, Exception]] = {}


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


def read_torchvision(architecture: str, pretrained: bool | str) -> Mapping[str, Tensor]:
    """The weights of torchvision's ``architecture`` by name.

    ``True`` stands for torchvision's newest, downloaded once to torch's cache; a text for a file
    that holds such weights. Raises ValueError where they cannot be had.
    """
    if pretrained is not True:
        return read_file(str(pretrained))
    from torchvision.models import get_model_weights

    newest = get_model_weights(architecture)["DEFAULT"]
    place = Path(torch.hub.get_dir()) / "checkpoints" / newest.url.rpartition("/")[2]
    when, before = _failed.get(place, (-math.inf, None))
    try:
        if before is not None and time.monotonic() - when < AGAIN and not place.exists():
            raise before
        return newest.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:
        if error is not before:
            _failed[place] = (time.monotonic(), error)
        raise ValueError(
            f"pretrained: {newest.url} could not be downloaded ({error}). Fetch that file where "
            f"there is a network, and put it at {place}, or anywhere and give it: "
            "model.pretrained=FILE"
        ) from error


def read_file(source: str) -> Mapping[str, Tensor]:
    """The tensors of a file by name. Raises ValueError where it is no such file.

    Nothing in the file is executed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        raise ValueError(
            f"pretrained: {source} is a folder; give a file of weights, or begin with those of a "
            f"run by init_from={source}"
        )
    if not path.is_file():
        raise ValueError(f"pretrained: there is no file {source!r}; give a path, or true")
    try:
        weights = read_tensors(path)
    except MemoryError:
        raise
    except Exception as error:  # torch's unpickler lets through whatever a damaged file makes of it
        raise ValueError(
            f"pretrained: {path} is no file of torch's weights: {reason(error)}"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"pretrained: {path} holds something else than the weights of a network")
    return weights


@torch.no_grad()
def take_named(
    network: nn.Module, weights: Mapping[str, Tensor], source: str, hint: str = ""
) -> None:
    """Copy ``weights``, buffers included, into the tensors of ``network`` of the same names.

    The last layer keeps its initial values if the classes are others in number, and what belongs
    to a part that ``network`` has as None (an auxiliary classifier) is left out; both are told.
    Raises ValueError, ending in ``hint``, where anything else does not match.
    """
    own = network.state_dict()
    absent = [name for name in weights if name not in own]
    left_out = [name for name in absent if _has_none(network, name)]
    # Files from before torch 0.4.1 have no such counts, which no forward pass reads.
    lacking = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    if len(absent) > len(left_out) or lacking:
        odd = next((name for name in absent if name not in left_out), None)
        told = f"it lacks {lacking[0]}" if odd is None else f"this network has no {odd}"
        raise ValueError(f"pretrained: {source} is of another network: {told}. {hint}".rstrip())
    last = [name for name, _ in network.named_parameters()][-1].rpartition(".")[0]
    anew = []
    for name, tensor in weights.items():
        if name in left_out or own[name].shape == tensor.shape:
            continue
        if name.rpartition(".")[0] != last or own[name].shape[1:] != tensor.shape[1:]:
            raise ValueError(
                f"pretrained: {name} is {_size(tensor)} in {source}, {_size(own[name])} in this "
                f"network. {hint}".rstrip()
            )
        anew.append(f"{name} ({_size(own[name])}, there {_size(tensor)})")
    for name, tensor in weights.items():
        if name in own and own[name].shape == tensor.shape:
            own[name].copy_(tensor)
    notes = [f"begun anew: {', '.join(anew)}"] if anew else []
    notes += [f"not used: {len(left_out)} tensors of parts that are left out"] if left_out else []
    taken = len(weights) - len(anew) - len(left_out)
    told = "; ".join([f"pretrained: {taken} of {len(own)} tensors are those of {source}", *notes])
    logger.info("%s.", told)


def _has_none(network: nn.Module, name: str) -> bool:
    """Whether the part of ``network`` that a tensor belongs to could be there, and is not."""
    return getattr(network, name.partition(".")[0], network) is None


class Normalized(NamedTuple):
    """How pixels in 0..1 were normalized: a number for all channels, or one for each."""

    mean: Sequence[float]
    std: Sequence[float]


def warn_of_other_pixels(spec: DataSpec | None, trained: Normalized) -> None:
    """Warn where the data's images are normalized otherwise than those of the weights were."""
    given = None if spec is None else next(iter(spec.of("input")), None)
    if given is None or not given.mean:
        return
    own = Normalized(given.mean, given.std)
    if any(_differ(a, b) for a, b in zip(own, trained, strict=True)):
        mean, std = (f"[{','.join(f'{x:.4g}' for x in values)}]" for values in trained)
        logger.warning(
            "pretrained: those weights read images normalized by data.mean=%s data.std=%s; "
            "this data has other values.",
            *(mean, std),
        )


def _differ(some: Sequence[float], others: Sequence[float]) -> bool:
    length = max(len(some), len(others))
    wide = [list(one) * (length // len(one)) for one in (some, others)]
    return any(abs(a - b) > ROUNDED for a, b in zip(*wide, strict=False))


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
