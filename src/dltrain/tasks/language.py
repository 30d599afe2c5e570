"""Predict the next token of a text, and write one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.pieces import silent
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.engine.eval_mode import eval_mode
from dltrain.errors import UserError
from dltrain.metrics.language import TextLikelihood
from dltrain.models.sequence.language import ReadsOn, State, predicts_next_token
from dltrain.tasks.generating import Choice, continued

NEWLINE = "\n"


class LanguageModel(Task):
    """Cross-entropy of the next token, by truncated backpropagation through time (Mikolov 2010).

    The data's rows are lanes of a text: where a network carries its state over, a row of a batch
    is read from the state in which the row of the batch before it ended, but gradients stop there.
    An evaluation begins each row anew.

    Raises ValueError for data whose target is not the next token, and for a network that does not
    read on.
    """

    monitor = Monitor("loss", "min")
    replayable = True

    def __init__(self, model: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        if not predicts_next_token(spec):
            raise ValueError(
                "a language model needs a text as one stream of tokens, as data=text_file is"
            )
        if not isinstance(model, ReadsOn):
            raise ValueError(
                "a language model reads on from a state, as lstm, gru, rnn and transformer do; "
                f"{type(model).__name__} does not"
            )
        self.model = model
        self.spec = spec
        assert isinstance(spec.target.fill, int)
        self.pad = spec.target.fill
        self._state: State = ()

    @property
    def network(self) -> ReadsOn:
        """The model, as what it is: no second name in the checkpoint."""
        return cast(ReadsOn, self.model)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean over the tokens of a window of each lane."""
        targets = batch["target"]
        logits, state = self.network.read_on(batch["input"], self._before(batch["begins"]))
        loss = self._nll(logits, targets).mean()
        optimize(loss, weight=targets.numel())
        if self.network.carries:
            self._keep(state)
        tokens = torch.ones_like(targets, dtype=torch.float32).sum()
        return {"loss": (loss.detach(), tokens), "tokens": tokens / len(targets)}

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (rows, time, vocabulary), from an empty state."""
        return {"logits": self.model(batch["input"])}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``nll`` (rows,) in nats, of those tokens of each row that are to be scored."""
        return {"nll": self._nll(self.forward(batch)["logits"], batch["target"]).sum(1)}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Loss, perplexity, and bits of what the tokens stand for."""
        return [TextLikelihood()]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """Of texts ``loss`` (rows,), the mean of a token in nats; ``perplexity`` and ``tokens``.

        Each is read as the beginning of a line, padding left out.
        """
        ids = batch["input"].long()
        before = ids.new_full((len(ids), 1), self._first())
        ids = torch.cat([before, ids], 1)
        nll = self._in_parts(ids)
        tokens = (ids[:, 1:] != self.pad).sum(1)
        loss = nll / tokens.clamp(min=1)
        number = Field((), "number")
        columns = {"loss": loss, "perplexity": loss.exp(), "tokens": tokens.float()}
        return Predictions(columns, dict.fromkeys(columns, number))

    def exports(self, examples: Batch) -> NoReturn:
        """Raise :class:`UserError`: a file could not carry the state on."""
        raise UserError(
            "export: a language model is not exported: it reads on from a state, which the "
            "file formats have no place for. dltrain sample RUN writes texts, predict scores them."
        )

    @torch.inference_mode()
    def sample_text(
        self,
        count: int,
        seed: int,
        length: int,
        prompt: Sequence[int] = (),
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Predictions:
        """See :class:`~dltrain.contracts.task.SamplesText`."""
        choice = Choice(temperature, top_k, top_p)
        device = next(self.parameters()).device
        given = torch.tensor(list(prompt) or [self._first()], device=device)
        never = torch.tensor(silent(self.spec.input.names))
        generator = torch.Generator().manual_seed(seed)
        with eval_mode(self):
            rows = given.expand(count, -1)
            found = continued(self.network, rows, length, choice, generator, never)
        source = self.spec.input
        text = found if prompt else found[:, 1:]
        field = Field((text.shape[1],), "tokens", size=source.size, names=source.names)
        return Predictions({"text": text.cpu()}, {"text": field})

    def training_state(self) -> dict[str, Any]:
        """What is known of the text before each lane's next window."""
        return {"state": [part.clone() for part in self._state]}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Read on from there."""
        device = next(self.parameters()).device
        self._state = tuple(part.to(device, copy=True) for part in state["state"])

    def _before(self, begins: Tensor) -> State:
        """The state to read on from: nothing where a lane begins (rows,)."""
        if not self._state:
            return self.network.initial_state(len(begins))
        return tuple(part.masked_fill(begins[:, None], 0.0) for part in self._state)

    @torch.no_grad()
    def _keep(self, state: State) -> None:
        """Where the last state lies, so that a recorded step finds it there again."""
        if not self._state:
            self._state = tuple(torch.empty_like(part, dtype=torch.float32) for part in state)
        for place, part in zip(self._state, state, strict=True):
            place.copy_(part.detach())

    def _nll(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of each token (rows, time), in nats; 0 where there is none to be predicted."""
        flat = functional.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            ignore_index=self.pad,
            reduction="none",
        )
        return flat.view_as(targets)

    def _in_parts(self, ids: Tensor) -> Tensor:
        """The negative log-likelihood (rows,) of whole texts (rows, time) but their first token.

        A network that reads no more than its context reads half of it before what it scores.
        """
        predicted, context = ids.shape[1] - 1, self.network.context
        scored = predicted if context is None else max(1, context // 2)
        total = torch.zeros(len(ids), device=ids.device)
        for low in range(0, predicted, scored):
            high = min(low + scored, predicted)
            begin = 0 if context is None else max(0, high - context)
            logits = self.model(ids[:, begin:high])[:, low - begin :]
            total += self._nll(logits, ids[:, low + 1 : high + 1]).sum(1)
        return total

    def _first(self) -> int:
        """The token that a text is begun after: the end of a line, or else the commonest one."""
        names, counts = self.spec.input.names, self.spec.input.counts
        if NEWLINE in names:
            return names.index(NEWLINE)
        return max(range(len(counts)), key=counts.__getitem__)
