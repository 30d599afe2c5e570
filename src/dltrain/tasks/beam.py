"""Beam search, many sequences at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.translation import EncoderDecoder


@dataclass(frozen=True)
class Search:
    """How one looks for the best sequence: see :func:`search`."""

    begin: int
    end: int
    pad: int
    beam: int = 5
    length_penalty: float = 0.6
    longest: float = 2.0
    least: int = 10


@torch.no_grad()
def search(network: EncoderDecoder, source: Tensor, how: Search) -> tuple[Tensor, Tensor]:
    """The best sequence for each of ``source`` (rows, time): ids (rows, steps) and scores (rows,).

    ``beam`` sequences are kept at each step, and a row is done when as many have ended; 1 is greedy
    search. A score is the sum of log-probabilities over ``((5 + n) / 6) ** length_penalty`` for
    ``n`` tokens, the end among them (Wu et al. 2016, equation 14). A sequence has at most
    ``longest`` times the tokens of its source and ``least`` more; there it ends. Ids come without
    beginning and end, padded on the right. What is found for a row depends on that row alone.
    """
    rows, beam = len(source), how.beam
    limits = ((source != how.pad).sum(1) * how.longest).long() + how.least
    memory = {
        name: column.repeat_interleave(beam, 0) for name, column in network.encode(source).items()
    }
    state = network.begin(memory)
    ids = source.new_full((rows * beam,), how.begin, dtype=torch.long)
    alive = torch.full((rows, beam), -torch.inf, device=source.device)
    alive[:, 0] = 0.0  # all begin alike: only one counts
    written = torch.zeros(rows, beam, 0, dtype=torch.long, device=source.device)
    done = _Done(rows, how, source.device)
    offsets = torch.arange(rows, device=source.device)[:, None] * beam
    for number in range(int(limits.max())):
        logits, state = network.step(memory, state, ids)
        chances = _allowed(logits, how, limits.repeat_interleave(beam) <= number + 1)
        size = chances.shape[1]
        scores = (alive[:, :, None] + chances.view(rows, beam, size)).flatten(1)
        best, places = scores.topk(2 * beam, 1)
        origins, tokens = places // size, places % size
        ends = tokens == how.end
        done.add(best[:, :beam].where(ends[:, :beam], -torch.inf), origins[:, :beam], written)
        if done.all():
            break
        # Of twice as many at most half have ended, and the others are as many as are kept.
        alive, chosen = best.where(~ends, -torch.inf).topk(beam, 1)
        kept, ids = origins.gather(1, chosen), tokens.gather(1, chosen)
        written = torch.cat([_rows(written, kept), ids[:, :, None]], 2)
        order = (offsets + kept).flatten()
        state = {name: column.index_select(0, order) for name, column in state.items()}
        ids = ids.flatten()
    return done.best()


def _allowed(logits: Tensor, how: Search, must_end: Tensor) -> Tensor:
    """Log-probabilities (rows, vocabulary): no padding, no second beginning; the end at last."""
    chances = logits.float().log_softmax(1)
    chances[:, [how.pad, how.begin]] = -torch.inf
    only_end = torch.full_like(chances[:1], -torch.inf)
    only_end[:, how.end] = 0.0
    return chances + torch.where(must_end[:, None], only_end, 0.0)


def _rows(written: Tensor, places: Tensor) -> Tensor:
    """Of each row's sequences (rows, beam, steps) those at ``places`` (rows, n)."""
    return written.gather(1, places[:, :, None].expand(-1, -1, written.shape[2]))


class _Done:
    """The best sequences of each row that have ended."""

    def __init__(self, rows: int, how: Search, device: torch.device) -> None:
        self._how = how
        self._count = torch.zeros(rows, dtype=torch.long, device=device)
        self._scores = torch.full((rows,), -torch.inf, device=device)
        self._ids = torch.full((rows, 0), how.pad, dtype=torch.long, device=device)

    def add(self, scores: Tensor, origins: Tensor, written: Tensor) -> None:
        """``scores`` (rows, beam), -inf where none has ended; before its end it is ``written``."""
        ended = scores.isfinite() & (self._count < self._how.beam)[:, None]
        length = written.shape[2] + 1  # and the end
        penalty = ((5 + length) / 6) ** self._how.length_penalty
        best, place = (scores / penalty).where(ended, -torch.inf).max(1)
        ids = _rows(written, origins.gather(1, place[:, None])).squeeze(1)
        better = best > self._scores
        missing = written.shape[2] - self._ids.shape[1]
        before = functional.pad(self._ids, (0, missing), value=self._how.pad)
        self._ids = torch.where(better[:, None], ids, before)
        self._scores = torch.where(better, best, self._scores)
        self._count += ended.sum(1)

    def all(self) -> bool:
        """Whether nothing is looked for any longer."""
        return bool((self._count >= self._how.beam).all())

    def best(self) -> tuple[Tensor, Tensor]:
        """Ids (rows, steps), as long as the longest, and scores (rows,)."""
        longest = int((self._ids != self._how.pad).sum(1).max())
        return self._ids[:, :longest], self._scores
