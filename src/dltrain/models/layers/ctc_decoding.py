"""From the probabilities of letters at each step to a transcript: greedily, or by beam search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLANK = 0
LETTERS = 20
"""Of each step, the most probable ones that a beam search tries."""
NEVER = -math.inf


def greedy(log_probabilities: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """The letters of the most probable path (batch, steps), and how many they are (batch,).

    Of equal neighbors one is left, and of blanks none. What is beyond ``steps`` (batch,) is
    padding; all is work on the device.
    """
    best = log_probabilities.argmax(2)
    time = best.shape[1]
    inside = torch.arange(time, device=best.device) < steps[:, None]
    before = torch.cat([torch.full_like(best[:, :1], BLANK), best[:, :-1]], 1)
    kept = (best != before) & (best != BLANK) & inside
    places = torch.where(kept, kept.cumsum(1) - 1, time)
    found = best.new_full((len(best), time + 1), BLANK)
    found.scatter_(1, places, best)
    return found[:, :time], kept.sum(1)


def beam_search(log_probabilities: Tensor, width: int, letters: int = LETTERS) -> list[int]:
    """The letters of the most probable transcript of one sound's steps (steps, size), on the CPU.

    A transcript has the probability of all paths that are written so (Graves and Jaitly 2014,
    algorithm 1; Hannun et al. 2014), of which those of ``width`` beginnings are followed. A
    beginning ends in a blank or in its last letter; each has its own probability.
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
    best, chosen = log_probabilities.topk(min(letters, log_probabilities.shape[1]), 1)
    for values, numbers, step in zip(
        best.tolist(), chosen.tolist(), log_probabilities.tolist(), strict=True
    ):
        found: dict[tuple[int, ...], tuple[float, float]] = {}
        for text, (in_blank, in_letter) in beams.items():
            whole = _added(in_blank, in_letter)
            last = step[text[-1]] if text else NEVER
            ended, going = found.get(text, (NEVER, NEVER))
            found[text] = _added(ended, whole + step[BLANK]), _added(going, in_letter + last)
            for value, number in zip(values, numbers, strict=True):
                if number == BLANK:
                    continue
                longer = (*text, number)
                # A letter after itself is a new one only where a blank is between.
                came = in_blank if text and number == text[-1] else whole
                ended, going = found.get(longer, (NEVER, NEVER))
                found[longer] = ended, _added(going, came + value)
        ranked = sorted(found.items(), key=lambda one: -_added(*one[1]))
        beams = dict(ranked[:width])
    text, _ = max(beams.items(), key=lambda one: _added(*one[1]))
    return list(text)


def _added(one: float, other: float) -> float:
    """The logarithm of the sum of two probabilities, given theirs."""
    high, low = max(one, other), min(one, other)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
