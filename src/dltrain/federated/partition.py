"""Which examples each client has."""

from __future__ import annotations

import torch
from torch import Tensor


def even(examples: int, clients: int, generator: torch.Generator) -> Tensor:
    """Examples (clients, each) by chance: as many for each client as there are for all."""
    each = examples // clients
    return torch.randperm(examples, generator=generator)[: clients * each].view(clients, each)


def by_class(targets: Tensor, clients: int, count: int, generator: torch.Generator) -> Tensor:
    """Examples (clients, each) of about ``count`` classes a client (McMahan et al. 2017).

    Examples (``targets`` has the class of each) are sorted by class and cut into ``count`` pieces a
    client, which are dealt by chance. A piece may begin in one class and end in the next.
    """
    pieces = clients * count
    each = len(targets) // pieces
    mixed = torch.randperm(len(targets), generator=generator)
    # Those left over are of no class in particular.
    kept = mixed[: pieces * each]
    ordered = kept[targets[kept].argsort(stable=True)].view(pieces, each)
    dealt = torch.randperm(pieces, generator=generator).view(clients, count)
    return ordered[dealt].flatten(1)
