"""How differently two networks see which examples are alike."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of two layers' similarities, 0-d (Tung and Mori 2019).

    A layer (batch, …) says how alike two examples are by the product of their features; each row
    of (batch, batch) is brought to length 1. So the layers may be of any two shapes.
    """
    rows = [
        functional.normalize(flat @ flat.T)
        for flat in (student.flatten(1).float(), teacher.flatten(1).float())
    ]
    return functional.mse_loss(rows[0], rows[1])
