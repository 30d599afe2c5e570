"""Text from a network that predicts the next token: one token after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.models.sequence.language import ReadsOn


@dataclass(frozen=True)
class Choice:
    """Which token comes next, by its logits.

    ``temperature`` divides them: below 1 the likely become likelier, and 0 takes the likeliest.
    Of the ``top_k`` likeliest (None: of all) one is drawn, and of those only the likeliest that
    together have the probability ``top_p`` (Holtzman et al. 2020; None: all).

    Raises ValueError for what is out of bounds.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number >= 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def probabilities(self, logits: Tensor) -> Tensor:
        """With which each token (rows, vocabulary) is drawn."""
        likeliest = logits.argmax(1, keepdim=True)
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(1, likeliest, 1.0)
        # The largest is 0 first: a tiny temperature would make infinities of others.
        scaled = (logits - logits.gather(1, likeliest)) / self.temperature
        ordered, order = scaled.sort(dim=1, descending=True, stable=True)
        if self.top_k is not None:
            ordered[:, self.top_k :] = -torch.inf
        drawn = ordered.softmax(1)
        if self.top_p is not None:
            before = drawn.cumsum(1) - drawn
            drawn = drawn.masked_fill(before >= self.top_p, 0.0)
            drawn /= drawn.sum(1, keepdim=True)
        return torch.zeros_like(drawn).scatter_(1, order, drawn)

    def draw(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """A token for each row (rows,) of ``logits`` (rows, vocabulary), on the CPU."""
        probabilities = self.probabilities(logits.double().cpu())
        if self.temperature == 0:
            return probabilities.argmax(1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def continued(
    network: ReadsOn,
    prompt: Tensor,
    length: int,
    choice: Choice,
    generator: torch.Generator,
    never: Tensor,
) -> Tensor:
    """``prompt`` (rows, time) and ``length`` tokens more, none of which is one of ``never``.

    What was read is not read again, so that a token takes as long as any other. A network
    that reads at most ``context`` tokens begins anew with the last half of them once it has read so
    many: each token is predicted from at least that half.
    """
    ids, context = prompt, network.context
    behind = len(prompt[0]) if context is None else context
    logits, state = network.read_on(ids[:, -behind:], network.initial_state(len(ids)))
    read = min(behind, ids.shape[1])
    never = never.to(logits.device)
    for _ in range(length):
        last = logits[:, -1].float().index_fill(1, never, -torch.inf)
        chosen = choice.draw(last, generator).to(ids.device)[:, None]
        ids = torch.cat([ids, chosen], 1)
        if context is not None and read >= context:
            read = max(1, context // 2)
            logits, state = network.read_on(ids[:, -read:], network.initial_state(len(ids)))
        else:
            logits, state = network.read_on(chosen, state)
            read += 1
    return ids
