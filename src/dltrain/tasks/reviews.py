"""Texts of a split worth reading, with what was said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.tasks.judged import Examples, Foremost, Mistakes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16
FIRST, LAST = 40, 20
"""Words of a long text that are shown; what it comes to often stands at its end."""
GOES_ON = "##"
"""What a piece of a word begins with that is not its first."""
SHUFFLE, PRIME = 7919, 65_521


class Words:
    """The tokens of ids, and which id is no word but padding."""

    def __init__(self, words: Sequence[str], pad_index: int) -> None:
        self._words = list(words)
        self.pad_index = pad_index

    def of(self, ids: Tensor) -> list[str]:
        """The words of one text, ``ids`` (time,)."""
        return [self._words[number] for number in ids[ids != self.pad_index].tolist()]


class Reviews:
    """Some texts of a split, the same at each evaluation, and the most confident mistakes."""

    def __init__(self, words: Words, class_names: Sequence[str]) -> None:
        self._words, self._class_names = words, class_names
        self._some = Foremost(SAMPLES, words.pad_index)
        self._mistakes = Mistakes(SAMPLES, words.pad_index)
        self._tokens: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._count = 0

    def add(self, examples: Examples) -> None:
        """Look through a batch of ids (n, time)."""
        real = examples.inputs != self._words.pad_index
        self._tokens.append(real.sum())
        self._hits.append((examples.logits.argmax(1) == examples.targets).sum())
        self._count += len(real)
        self._some.add(_lots(examples.inputs.where(real, 0)), examples)
        self._mistakes.add(examples)

    def some(self) -> Examples:
        """Some texts, on the CPU."""
        return self._some.found()

    def tokens(self) -> float:
        """The mean number of tokens of a text, padding left out."""
        return sum(torch.stack(self._tokens).tolist()) / self._count

    def shown(self) -> str:
        """A Markdown table of some texts."""
        some = self.some()
        return f"{len(some.targets)} of {self._count:,}\n\n{self._table(some)}"

    def shown_mistakes(self) -> str:
        """A Markdown table of the most confident mistakes."""
        wrong = self._count - sum(torch.stack(self._hits).tolist())
        worst = self._mistakes.worst()
        most = f": the {len(worst.targets)} most confident" if wrong > len(worst.targets) else ""
        return f"{wrong:,} of {self._count:,} wrong{most}\n\n{self._table(worst)}"

    def _table(self, examples: Examples) -> str:
        rows = ["| truth | prediction | confidence | text |", "| --- | --- | --- | --- |"]
        confidences, predicted = examples.logits.softmax(1).max(1)
        columns = (examples.inputs, examples.targets, predicted, confidences)
        for ids, target, guess, confidence in zip(*columns, strict=True):
            truth, said = (escaped(self._class_names[int(number)]) for number in (target, guess))
            said = said if target == guess else f"**{said}**"
            text = escaped(shortened(self._words.of(ids)))
            rows.append(f"| {truth} | {said} | {float(confidence):.1%} | {text} |")
        return "\n".join(rows)


def draw_attention(
    words: Words, class_names: Sequence[str], examples: Examples, weights: Tensor
) -> Figure:
    """``examples`` word by word, as dark as ``weights`` (n, time), on the CPU."""
    from dltrain.figures.words import Shaded, draw_attention

    texts = []
    confidences, predicted = examples.logits.softmax(1).max(1)
    columns = (examples.inputs, weights, examples.targets, predicted, confidences)
    for ids, own, target, guess, confidence in zip(*columns, strict=True):
        truth, said = (class_names[int(number)] for number in (target, guess))
        wrong = bool(target != guess)
        caption = f"{said} ({confidence:.0%})" + (f", true: {truth}" if wrong else "")
        real = ids != words.pad_index
        texts.append(Shaded(words.of(ids), own[real].numpy(), caption, wrong))
    return draw_attention(texts)


def shortened(words: Sequence[str]) -> str:
    """The first and the last of many words; pieces that go on with a word joined to it."""
    some = words if len(words) <= FIRST + LAST else (*words[:FIRST], "…", *words[-LAST:])
    return " ".join(some).replace(f" {GOES_ON}", "")


def escaped(text: str) -> str:
    """``text`` so that a cell of a Markdown table shows it as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", text)


def _lots(ids: Tensor) -> Tensor:
    """A number for each text (n,), by its words alone, however it is padded or batched."""
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    return ((ids * places).sum(1) * SHUFFLE % PRIME).float()
