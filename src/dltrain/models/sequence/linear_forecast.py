"""Linear maps from what was to what follows, which many a transformer does not beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_at_least
from dltrain.models.sequence.sequences import forecasts, sequence_shape


class LinearForecast(nn.Module):
    """Each target's horizon as a linear map of its own history (Zeng et al. 2023).

    (arXiv:2205.13504, LTSF-Linear.) Histories (batch, history, series), whose first series are the
    targets, to (batch, horizon * targets). ``individual``: a map a target, else one for all.
    ``kernel``: maps of the trend and of what is left of it, added up (DLinear): the trend is a
    moving average over so many steps, of which the first and the last are repeated at the ends.

    Raises ValueError for other data, and for kernels that are no odd number.
    """

    def __init__(self, spec: DataSpec, individual: bool = False, kernel: int | None = None) -> None:
        super().__init__()
        if not forecasts(spec):
            raise ValueError("this model forecasts series, as data=series has them")
        history, (horizon, targets) = sequence_shape(spec.input)[0], sequence_shape(spec.target)
        if kernel is not None:
            require_at_least(1, kernel=kernel)
            if kernel % 2 == 0:
                raise ValueError(f"kernel must be odd, for a middle; got {kernel}")
        self.targets, self.kernel = targets, kernel
        maps, parts = self.targets if individual else 1, 1 if kernel is None else 2
        bound = history**-0.5
        self.weight = nn.Parameter(torch.empty(maps, horizon, parts * history))
        self.bias = nn.Parameter(torch.empty(maps, horizon))
        for parameter in self.parameters():  # as a dense layer begins
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        past = inputs[..., : self.targets].transpose(1, 2)
        if self.kernel is not None:
            edge = self.kernel // 2
            padded = functional.pad(past, (edge, edge), mode="replicate")
            trend = functional.avg_pool1d(padded, self.kernel, 1)
            past = torch.cat([trend, past - trend], 2)
        if len(self.weight) == 1:
            ahead = functional.linear(past, self.weight[0], self.bias[0])
        else:
            ahead = torch.einsum("bch,cfh->bcf", past, self.weight) + self.bias
        return ahead.transpose(1, 2).flatten(1)
