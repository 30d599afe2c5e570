"""How good translations are: loss and perplexity a token, BLEU and chrF, and some to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Table
from dltrain.contracts.pieces import sentence_of
from dltrain.contracts.task import AttentionMap
from dltrain.errors import UserError
from dltrain.metrics.accumulators import AccumulatorMetric, Sum, TopK, double, spread
from dltrain.metrics.sequences import Sequences
from dltrain.metrics.text import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tokenizer = Literal["auto", "13a", "intl", "zh", "char", "none"]
SHOWN = 10
"""Translations that are shown."""
DRAWN = 4
"""Of which so many have their attention drawn."""
HAN = 0.5
"""A fraction of Chinese characters from which on words are characters."""


class TokenLoss(AccumulatorMetric):
    """The mean ``nll`` a token in nats, and its exponential, the perplexity."""

    names = ("loss", "perplexity")

    def __init__(self) -> None:
        self._nll, self._tokens = Sum(), Sum()
        super().__init__(nll=self._nll, tokens=self._tokens)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Add ``nll`` and ``tokens`` (batch,)."""
        self._nll.add(double(outputs["nll"]).sum(), len(rows))
        self._tokens.add(double(outputs["tokens"]).sum(), len(rows))

    def compute(self) -> Evaluation:
        """Both, over all tokens alike."""
        tokens = float(self._tokens.value)
        loss = float(self._nll.value) / tokens
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return Evaluation({"loss": loss, "perplexity": perplexity}, weights={"loss": round(tokens)})


class TranslationScores(AccumulatorMetric):
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of whole texts, by sacrebleu.

    ``column`` of the outputs has the ids that were written, and ``target`` those of the
    references; ``names`` spell them. ``prefix`` stands before the scalars' names. ``tokenizer`` is
    what BLEU counts words by; auto: characters where most letters of the references are Chinese.
    """

    def __init__(
        self, column: str, names: Sequence[str], fill: int, tokenizer: Tokenizer, prefix: str = ""
    ) -> None:
        self._column, self._spelled, self._prefix = column, names, prefix
        self._tokenizer = tokenizer
        self.names = (f"{prefix}bleu", f"{prefix}chrf")
        self.better: Mapping[str, Mode] = {name: "max" for name in self.names}  # noqa: C420
        self._all = Sequences(fill)
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep what was written, and the references."""
        self._all.add(rows, outputs[self._column], batch["target"])

    def compute(self) -> Evaluation:
        """Both scores, 0 to 100, and a table of sacrebleu's signatures.

        Raises :class:`UserError` where sacrebleu is missing.
        """
        sacrebleu = require_sacrebleu()
        said, meant = (
            [sentence_of(self._spelled, ids) for ids in column] for column in self._all.found()
        )
        tokenizer = self._tokenizer if self._tokenizer != "auto" else _tokenizer_of(meant)
        scores = {
            f"{self._prefix}bleu": sacrebleu.BLEU(tokenize=tokenizer),
            f"{self._prefix}chrf": sacrebleu.CHRF(),
        }
        found = {name: score.corpus_score(said, [meant]) for name, score in scores.items()}
        signatures = {name: str(score.get_signature()) for name, score in scores.items()}
        rows = [(name, found[name].score, signatures[name]) for name in scores]
        return Evaluation(
            {name: float(score.score) for name, score in found.items()},
            tables={f"{self._prefix}scores": Table(("score", "value", "signature"), rows)},
            signatures=signatures,
        )


class SomeTranslations(AccumulatorMetric):
    """Some texts of a split, what they are said to be and what was meant; and the attention.

    ``column`` of the outputs has the ids that were written. ``sources`` and ``targets`` name the
    tokens. ``attend`` gives the weights (n, steps, time) of ids written about ids read; it is asked
    once, in :meth:`compute`.
    """

    def __init__(
        self,
        column: str,
        sources: Sequence[str],
        targets: Sequence[str],
        fill: int,
        attend: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self._column, self._sources, self._targets = column, sources, targets
        self._fill, self._attend = fill, attend
        self._some = TopK(SHOWN, fill)
        super().__init__(some=self._some)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look for those that are spread over the split."""
        columns = batch["input"], batch["target"], outputs[self._column]
        self._some.add(spread(rows), *columns)

    def compute(self) -> Evaluation:
        """A table, the same in Markdown, and a figure of the first few."""
        read, meant, said = self._some.found()
        rows = [
            (
                sentence_of(self._sources, ids.tolist()),
                sentence_of(self._targets, own.tolist()),
                sentence_of(self._targets, other.tolist()),
            )
            for ids, own, other in zip(read, said, meant, strict=True)
        ]
        lines = ["| text | translation | reference |", "| --- | --- | --- |"]
        lines += ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
        texts = {"translations": "\n".join(lines)}
        tables = {"translations": Table(("text", "translation", "reference"), rows)}
        few = read[:DRAWN], said[:DRAWN]
        maps = attention_maps(self._sources, self._targets, self._fill, self._attend, *few)
        figures: dict[str, Callable[[], Figure]] = {}
        if maps:
            figures["attention"] = partial(_draw, maps)
        return Evaluation(tables=tables, texts=texts, figures=figures)


def attention_maps(
    sources: Sequence[str],
    targets: Sequence[str],
    fill: int,
    attend: Callable[[Tensor, Tensor], Tensor],
    read: Tensor,
    said: Tensor,
) -> list[AttentionMap]:
    """A map for each row of ids ``read`` (n, time) and ``said`` (n, steps), padded with ``fill``.

    ``attend`` gives the weights (n, steps, time). None where nothing was said at all.
    """
    if not said.shape[1]:
        return []
    maps = []
    for text, own, weights in zip(read, said, attend(read, said).float().cpu(), strict=True):
        words = _named(sources, text, fill), _named(targets, own, fill)
        maps.append(AttentionMap(*words, weights[: len(words[1]), : len(words[0])]))
    return maps


def _named(names: Sequence[str], ids: Tensor, fill: int) -> list[str]:
    return [names[number] for number in ids[ids != fill].tolist()]


def require_sacrebleu() -> ModuleType:
    """The package. Raises :class:`UserError` saying how to install it where it is missing."""
    try:
        import sacrebleu
    except ImportError as error:
        raise UserError(
            "BLEU and chrF need sacrebleu: pip install 'dltrain[translation]'"
        ) from error
    return sacrebleu


def _tokenizer_of(texts: Sequence[str]) -> str:
    """``zh`` for texts in Chinese, else sacrebleu's default."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    han = sum("\u3400" <= letter <= "\u9fff" for letter in letters)
    return "zh" if letters and han > HAN * len(letters) else "13a"


def _draw(maps: Sequence[AttentionMap]) -> Figure:
    from dltrain.reports.attention import draw_attention_maps

    return draw_attention_maps([(one.read, one.written, one.weights.numpy()) for one in maps])
