"""Whether an object has what a protocol asks for."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from dltrain.contracts.structure import has_members


class Coder(Protocol):
    coder: nn.Module
    width: int

    def encode(self, images: Tensor) -> Tensor: ...


def test_a_network_in_an_attribute_counts_as_one() -> None:
    """On Python 3.12 and later, isinstance of a protocol does not see it."""

    class Complete(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coder, self.width = nn.Linear(2, 3), 3

        def encode(self, images: Tensor) -> Tensor:
            return self.coder(images)

    class WithoutMethod(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coder, self.width = nn.Linear(2, 3), 3

    without_network = Complete()
    del without_network.coder

    assert has_members(Complete(), Coder)
    assert not has_members(WithoutMethod(), Coder)
    assert not has_members(without_network, Coder)
