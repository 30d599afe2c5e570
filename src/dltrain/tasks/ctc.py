"""Write down what is spoken: connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.metrics.infeasible import Infeasible
from dltrain.metrics.mean import WeightedMean
from dltrain.metrics.sounds import WrittenSounds
from dltrain.metrics.transcription import Transcripts
from dltrain.models.layers.ctc_decoding import beam_search, greedy
from dltrain.tasks.losses.ctc import ctc_losses

BLANK_INDEX, UNKNOWN_INDEX = 0, 1
"""Of an alphabet: no letter, and letters that it lacks, which are never written."""


class Ctc(Task):
    """Minus the logarithm of the probability of each transcript, all alignments together.

    The network gives logits (batch, steps, letters) and how many steps are real (batch,), of
    frames and their lengths. A transcript that needs more steps than there are has no loss: it is
    left out of the mean and counted as ``infeasible``.

    ``beam`` is how many beginnings a beam search follows in predictions and where a run is tested
    at its end; 1: the most probable path, as in every other evaluation.

    Raises ValueError for inputs that are no sounds and targets that are no letters.
    """

    monitor = Monitor("cer", "min")

    def __init__(self, model: nn.Module, spec: DataSpec, beam: int = 10) -> None:
        super().__init__()
        if spec.input.kind != "audio" or spec.target.kind != "tokens":
            raise ValueError(
                "ctc needs sounds with transcripts, and this data has "
                f"{spec.input.kind} with {spec.target.kind}"
            )
        if beam < 1:
            raise ValueError(f"beam must be at least 1, got {beam}")
        self.model, self.spec, self.beam = model, spec, beam

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean loss of the feasible transcripts."""
        logits, steps = self.model(*self.spec.inputs(batch))
        losses, feasible = self._losses(logits, steps, batch)
        count = feasible.sum()
        loss = losses.sum() / count.clamp_min(1)
        optimize(loss, weight=count)
        infeasible = 1 - feasible.mean(dtype=torch.float32)
        return {"loss": (loss.detach(), count), "infeasible": infeasible}

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, steps, letters) and ``logits_length`` (batch,)."""
        logits, steps = self.model(*self.spec.inputs(batch))
        return {"logits": logits, "logits_length": steps}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``hypothesis`` (batch, letters), and the loss of each transcript that is feasible."""
        out = self.forward(batch)
        losses, feasible = self._losses(out["logits"], out["logits_length"], batch)
        known = {"losses": losses, "feasible": feasible}
        return out | known | self._written(out, self.beam if draw.final else 1)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Loss, error rates, and transcripts to read."""
        return [
            WeightedMean("loss", lambda out, batch: (out["losses"].sum(), out["feasible"].sum())),
            Infeasible(),
            Transcripts(self.spec.target.names, UNKNOWN_INDEX),
            WrittenSounds(self.spec, self.spec.target.names),
        ]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``text``: numbers of letters (batch, letters), with their ``text_length``.

        ``confidence`` (batch,) is the geometric mean over the steps of the most probable output's
        probability.
        """
        out = self.forward(batch)
        written = self._written(out, self.beam)
        logs = out["logits"].float().log_softmax(2).amax(2)
        steps = out["logits_length"]
        real = torch.arange(logs.shape[1], device=logs.device) < steps[:, None]
        target = self.spec.target
        columns = {
            "text": written["hypothesis"],
            "text_length": written["hypothesis_length"],
            "confidence": ((logs * real).sum(1) / steps).exp(),
        }
        fields = {
            "text": Field((None,), "tokens", size=target.size, names=target.names, fill=0),
            "text_length": Field((), "tokens"),
            "confidence": Field((), "number"),
        }
        return Predictions(columns, fields)

    def _losses(self, logits: Tensor, steps: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return ctc_losses(logits, steps, batch["target"], batch["target_length"])

    def _written(self, out: Outputs, beam: int) -> Outputs:
        logs, steps = out["logits"].float().log_softmax(2), out["logits_length"]
        logs[..., UNKNOWN_INDEX] = -torch.inf
        if beam == 1:
            found, lengths = greedy(logs, steps)
        else:
            texts = [
                beam_search(own[:count], beam)
                for own, count in zip(logs.cpu(), steps.tolist(), strict=True)
            ]
            found, lengths = _padded(texts, logs.device)
        return {"hypothesis": found, "hypothesis_length": lengths}


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, texts), default=0)
    rows = [[*text, *[BLANK_INDEX] * (longest - len(text))] for text in texts]
    found = torch.tensor(rows, dtype=torch.int64).view(len(texts), longest)
    return found.to(device), torch.tensor([len(text) for text in texts]).to(device)
