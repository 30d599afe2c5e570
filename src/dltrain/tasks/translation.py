"""Write a text in another language: cross-entropy a token, and beam search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.pieces import BEGIN, END
from dltrain.contracts.task import (
    AttentionMap,
    Exportable,
    Metrics,
    Monitor,
    Optimize,
    Phase,
    Predictions,
    Task,
)
from dltrain.contracts.translation import EncoderDecoder
from dltrain.errors import UserError
from dltrain.metrics.translation import (
    SomeTranslations,
    Tokenizer,
    TokenLoss,
    TranslationScores,
    attention_maps,
    require_sacrebleu,
)
from dltrain.tasks.beam import Search, search


class Translation(Task):
    """Minimize the cross-entropy of each token of ``target`` given ``input`` and those before it.

    ``label_smoothing`` moves that fraction of each token's weight evenly to all of the vocabulary
    (Szegedy et al. 2016, section 7); it acts in training only. Every evaluation writes the
    greediest translations, for BLEU and chrF; that of the test split, and whoever asks for a
    translation, searches with a ``beam`` as well (:func:`~dltrain.tasks.beam.search`).
    ``bleu_tokenizer`` is sacrebleu's: auto counts characters where the references are Chinese.

    Raises ValueError for a network without two halves, for a vocabulary that marks no beginning and
    end, and for what is no fraction or no number of sequences.
    """

    monitor = Monitor("bleu", "max")

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        label_smoothing: float = 0.1,
        beam: int = 5,
        length_penalty: float = 0.6,
        bleu_tokenizer: Tokenizer = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(model, EncoderDecoder):
            raise ValueError(
                f"translation needs a network that reads and writes, which {type(model).__name__} "
                "is not; try model=seq2seq or model=transformer_seq2seq"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is a fraction from 0 to below 1, got {label_smoothing}"
            )
        if beam < 1:
            raise ValueError(f"beam is at least 1, got {beam}")
        if length_penalty < 0:
            raise ValueError(f"length_penalty is not negative, got {length_penalty}")
        names = spec.target.names
        if BEGIN not in names or END not in names or not isinstance(spec.target.fill, int):
            raise ValueError(
                f"translation needs tokens {BEGIN} and {END} in the target's vocabulary, and one "
                "that pads; data=parallel has them"
            )
        self.model, self.spec = model, spec
        self.label_smoothing = label_smoothing
        self.bleu_tokenizer: Tokenizer = bleu_tokenizer
        self.pad, self.begin = spec.target.fill, names.index(BEGIN)
        self.how = Search(self.begin, names.index(END), self.pad, beam, length_penalty)

    def enter(self, phase: Phase) -> None:
        """Raise :class:`UserError` where sacrebleu is missing, before anything is trained."""
        require_sacrebleu()

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean over the batch's tokens; count them."""
        target = batch["target"].long()
        logits = self.model(batch["input"], self._before(target))
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(),
            target.flatten(),
            ignore_index=self.pad,
            label_smoothing=self.label_smoothing,
        )
        tokens = (target != self.pad).sum()
        optimize(loss, weight=tokens)
        return {"loss": (loss.detach(), tokens), "tokens": tokens / len(target)}

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, steps, vocabulary), given the target's tokens before each step."""
        return {"logits": self.model(batch["input"], self._before(batch["target"].long()))}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``nll`` and ``tokens`` (batch,); ``greedy`` and, in the end, ``beam`` (batch, steps)."""
        target = batch["target"].long()
        logits = self.forward(batch)["logits"].float()
        nll = functional.cross_entropy(
            logits.transpose(1, 2), target, ignore_index=self.pad, reduction="none"
        )
        greedy = replace(self.how, beam=1)
        outputs = {
            "nll": nll.sum(1),
            "tokens": (target != self.pad).sum(1),
            "greedy": self._written(batch, greedy)[0],
        }
        if draw.final and self.how.beam > 1:
            outputs["beam"] = self._written(batch, self.how)[0]
        return outputs

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Loss, perplexity, BLEU and chrF; in the end those of beam search, too."""
        names, given = self.spec.target.names, (self.pad, self.bleu_tokenizer)
        shown = "beam" if final and self.how.beam > 1 else "greedy"
        metrics: list[Metric] = [TokenLoss(), TranslationScores("greedy", names, *given)]
        if shown == "beam":
            metrics.append(TranslationScores("beam", names, *given, prefix="beam_"))
        sources = self.spec.input.names
        return [*metrics, SomeTranslations(shown, sources, names, self.pad, self._attend)]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``translation`` (batch, steps) and its ``score`` (batch,), by beam search."""
        ids, scores = self._written(batch, self.how)
        target = self.spec.target
        fields = {
            "translation": Field(
                (None,), "tokens", size=target.size, names=target.names, fill=self.pad
            ),
            "score": Field((), "number"),
        }
        return Predictions({"translation": ids, "score": scores}, fields)

    def attention(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Sequence[AttentionMap]:
        """How much each token of a translation attends to each of its text."""
        return attention_maps(
            *(self.spec.input.names, self.spec.target.names, self.pad, self._attend),
            *(batch["input"], predictions["translation"]),
        )

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """Raises :class:`UserError`: a search is no network."""
        raise UserError(
            "export: translation searches word by word, which is no network that could be "
            "exported; dltrain serve RUN and dltrain.load(RUN) translate."
        )

    def _written(self, batch: Batch, how: Search) -> tuple[Tensor, Tensor]:
        assert isinstance(self.model, EncoderDecoder)
        return search(self.model, batch["input"], how)

    def _before(self, target: Tensor) -> Tensor:
        """The token before each of ``target`` (batch, steps)."""
        return functional.pad(target[:, :-1], (1, 0), value=self.begin)

    @torch.no_grad()
    def _attend(self, read: Tensor, said: Tensor) -> Tensor:
        """The attention (n, steps, time) of what was written about what was read."""
        assert isinstance(self.model, EncoderDecoder)
        device = next(self.model.parameters()).device
        memory = self.model.encode(read.to(device))
        return self.model.decode(memory, self._before(said.long().to(device)))[1]
