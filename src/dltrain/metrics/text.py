"""Texts of a split worth reading, with their predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Outputs
from dltrain.metrics.accumulators import AccumulatorMetric, TopK
from dltrain.metrics.classification import SAMPLES, Examples, Mistakes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST, LAST = 40, 20
"""Words of a long text that are shown; what it comes to often stands at its end."""
FEW = 6
"""Texts whose words are drawn."""
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


class Reviews(AccumulatorMetric):
    """Some texts of a split, the same at each evaluation, and the most confident mistakes.

    It reads what the metrics of :mod:`dltrain.metrics.classification` read; ``input`` are ids
    (batch, time). ``attend`` gives the weight of each word, (n, time), of ids (n, time), or None
    where there are no weights; it is asked once, in :meth:`compute`.
    """

    def __init__(
        self,
        words: Words,
        class_names: Sequence[str],
        attend: Callable[[Tensor], Tensor | None],
    ) -> None:
        self._words, self._class_names, self._attend = words, class_names, attend
        self._some = TopK(SAMPLES, words.pad_index)
        self._mistakes = Mistakes(SAMPLES, words.pad_index)
        super().__init__(some=self._some, mistakes=self._mistakes)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        ids, targets = batch["input"], batch["target"]
        real = ids != self._words.pad_index
        self._some.add(_lots(ids.where(real, 0)), ids, outputs["logits"], targets)
        self._mistakes.add(outputs, batch)

    def compute(self) -> Evaluation:
        """Markdown tables of both, and a figure of the attention to a few where there is some."""
        some = Examples(*self._some.found())
        wrong, worst = self._mistakes.found()
        texts = {
            "reviews": f"{len(some.targets)} of {self._mistakes.examples:,}\n\n{self._table(some)}",
            "mistakes": f"{wrong}\n\n{self._table(worst)}",
        }
        few = Examples(*(column[:FEW] for column in some))
        weights = self._attend(few.inputs)
        if weights is None:
            return Evaluation(texts=texts)
        shown = self._words, self._class_names, few, weights.float().cpu()
        return Evaluation(texts=texts, figures={"attention": partial(_draw_attention, *shown)})

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


def _draw_attention(
    words: Words, class_names: Sequence[str], examples: Examples, weights: Tensor
) -> Figure:
    """``examples`` word by word, as dark as ``weights`` (n, time), on the CPU."""
    from dltrain.reports import canvas
    from dltrain.reports.words import Shaded, draw_attention

    names = [canvas.shortened(name) for name in class_names]
    texts = []
    confidences, predicted = examples.logits.softmax(1).max(1)
    columns = (examples.inputs, weights, examples.targets, predicted, confidences)
    for ids, own, target, guess, confidence in zip(*columns, strict=True):
        truth, said = (names[int(number)] for number in (target, guess))
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
