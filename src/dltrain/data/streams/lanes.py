"""One long sequence of tokens, as a text is: trained on along lanes, evaluated in rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Stream, epoch_seed

FEW = 10
"""Windows of a lane, of which one more or less is a large part."""


@dataclass(frozen=True)
class Lanes:
    """How ``tokens`` are dealt to lanes: ``lanes`` times ``windows`` of ``window`` tokens.

    ``slack`` tokens are left over: an epoch leaves out so many, others each time.
    """

    lanes: int
    window: int
    windows: int
    slack: int

    @classmethod
    def of(cls, tokens: int, lanes: int, window: int) -> Lanes:
        """At most so many lanes and tokens a window, of at least 2 tokens.

        Each token but the first is to be predicted. Some slack is wanted, so that windows
        begin elsewhere in every epoch, unless that would cost a large part of the text.
        """
        predicted = tokens - 1
        window = min(window, predicted)
        lanes = min(lanes, predicted // window)
        windows = predicted // (lanes * window)
        if windows >= FEW and predicted - windows * lanes * window < window:
            windows -= 1
        return cls(lanes, window, windows, predicted - lanes * windows * window)


class LaneStream(Stream):
    """Windows of contiguous tokens, one from each lane: a row goes on where it was a step ago.

    ``ids`` (tokens,) are those of the whole split. A batch has ``input`` and ``target`` (lanes,
    window), the target one token on, and ``begins`` (lanes,): whether the lane starts anew, as all
    do with an epoch. Each epoch starts at another token, by ``(seed, epoch)``.
    """

    def __init__(self, ids: Tensor, lanes: Lanes, device: torch.device, seed: int) -> None:
        self._ids = ids.to(device)
        self._lanes, self._seed = lanes, seed
        self._all = torch.ones(lanes.lanes, dtype=torch.bool, device=device)
        self._none = ~self._all

    @property
    def steps_per_epoch(self) -> int:
        return self._lanes.windows

    @property
    def examples(self) -> int:
        """Windows."""
        return self._lanes.windows * self._lanes.lanes

    @property
    def smallest_batch(self) -> int:
        """Lanes."""
        return self._lanes.lanes

    def start(self, epoch: int) -> int:
        """The first token of an epoch."""
        generator = torch.Generator().manual_seed(epoch_seed(self._seed, epoch))
        return int(torch.randint(self._lanes.slack + 1, (), generator=generator))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        lanes, window = self._lanes.lanes, self._lanes.window
        first = self.start(epoch)
        length = lanes * self._lanes.windows * window
        inputs, targets = (
            self._ids[begin : begin + length].view(lanes, -1) for begin in (first, first + 1)
        )
        for position in range(start, self._lanes.windows):
            here = slice(position * window, (position + 1) * window)
            yield {
                "input": inputs[:, here].long(),
                "target": targets[:, here].long(),
                "begins": self._none if position else self._all,
            }

    def rows(self, epoch: int, position: int) -> Tensor:
        """The windows of a batch, numbered along the text from the epoch's start."""
        lanes = torch.arange(self._lanes.lanes, device=self._ids.device)
        return lanes * self._lanes.windows + position


@dataclass(frozen=True)
class Scored:
    """How a split is evaluated: each row scores ``scored`` tokens, after ``context`` others.

    ``characters`` and ``bytes`` are those of a token, in the mean over the split.
    """

    scored: int
    context: int
    rows: int
    characters: float
    bytes: float


class ScoredStream(Stream):
    """Every token of a split but the first, scored once, in rows that need no other row.

    Before the tokens that a row scores stand others which are read only, so that none is
    predicted from nothing but the text's first. A batch has ``input`` and ``target`` (rows, time),
    where the target is ``fill`` for what is not scored; and for each row ``tokens`` (rows,), how
    many it scores, with the ``characters`` and ``bytes`` that these stand for in the mean.
    """

    def __init__(self, ids: Tensor, how: Scored, fill: int, device: torch.device) -> None:
        self._ids, self._how, self._fill = ids.to(device), how, fill
        self._predicted = len(ids) - 1
        self._time = min(how.scored + how.context, self._predicted)
        self._count = -(-self._predicted // how.scored)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self._count // self._how.rows)

    @property
    def examples(self) -> int:
        """Rows."""
        return self._count

    @property
    def smallest_batch(self) -> int:
        """Rows of the last batch."""
        return self._count - (self.steps_per_epoch - 1) * self._how.rows

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        how = self._how
        steps = torch.arange(self._time, device=self._ids.device)
        for position in range(start, self.steps_per_epoch):
            low = self.rows(epoch, position) * how.scored
            high = (low + how.scored).clamp(max=self._predicted)
            # A row that would begin before the text, or end behind it, has another context.
            begins = (low - how.context).clamp(min=0, max=self._predicted - self._time)
            places = begins[:, None] + steps
            outside = (places < low[:, None]) | (places >= high[:, None])
            tokens = high - low
            yield {
                "input": self._ids[places].long(),
                "target": self._ids[places + 1].long().masked_fill(outside, self._fill),
                "tokens": tokens,
                "characters": tokens * how.characters,
                "bytes": tokens * how.bytes,
            }

    def rows(self, epoch: int, position: int) -> Tensor:
        first = position * self._how.rows
        last = min(first + self._how.rows, self._count)
        return torch.arange(first, last, device=self._ids.device)
