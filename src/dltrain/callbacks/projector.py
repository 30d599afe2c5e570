"""Word vectors for TensorBoard's embedding projector."""

from __future__ import annotations

import io
import logging
import math

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import DataSpec, Streams
from dltrain.contracts.run import Probe, Setup, View
from dltrain.contracts.task import Task
from dltrain.errors import UserError
from dltrain.runs.word_vectors import vectors_of

logger = logging.getLogger(__name__)

CONFIG = "projector_config.pbtxt"
VECTORS, LABELS = "projector/tensors.tsv", "projector/metadata.tsv"


class Projector(Probe):
    """The vectors of the ``most_words`` most frequent words, with labels, as the run ends.

    Writes ``projector/tensors.tsv``, ``projector/metadata.tsv`` and, for TensorBoard,
    ``projector_config.pbtxt``. The metadata are columns to color the words by: a word's fraction of
    the training text, also as a power of ten, and what a classifier says of the word alone. Of two
    classes that is its polarity, from -1 (the first) to 1 (the second), of more the most probable.
    A TensorBoard that was running before shows them once it is started anew or another run begins.

    Raises :class:`UserError` where the data has no words that were counted; of a network without
    word vectors there is a note.
    """

    def __init__(self, spec: DataSpec, most_words: int = 2000) -> None:
        if most_words < 1:
            raise ValueError(f"most_words is at least 1, got {most_words}")
        self.most_words = most_words
        self._class_names = spec.class_names
        self._words = next((f for f in spec.of("input") if f.kind == "tokens" and f.counts), None)

    def check(self, setup: Setup) -> None:
        if self._words is None:
            raise UserError(
                "callbacks.projector: it shows vectors of words, but this data has none; leave it "
                "out of callbacks."
            )

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """Take the vectors as they are now, and write them."""
        table = vectors_of(task)
        if table is None:
            logger.info("callbacks.projector shows nothing: the model has no word vectors")
            return
        assert self._words is not None
        frequencies = np.array(self._words.frequencies)
        chosen = np.argsort(-frequencies, kind="stable")
        chosen = chosen[chosen != self._words.fill][: self.most_words]
        vectors = io.StringIO()
        np.savetxt(vectors, table.numpy()[chosen], fmt="%.6g", delimiter="\t")
        names = self._words.names
        columns = {
            "word": [_on_one_line(names[i]) for i in chosen],
            "fraction of the text": [f"{frequencies[i]:.3g}" for i in chosen],
            "log10 fraction": [_magnitude(frequencies[i]) for i in chosen],
            **self._said(task, torch.from_numpy(chosen)),
        }
        lines = ["\t".join(columns), *map("\t".join, zip(*columns.values(), strict=True)), ""]
        view.write(VECTORS, vectors.getvalue())
        view.write(LABELS, "\n".join(lines))
        view.write(CONFIG, _config(len(chosen), table.shape[1]))

    def _said(self, task: Task, chosen: Tensor) -> dict[str, list[str]]:
        """What a classifier makes of each word alone; nothing of another task."""
        names = self._class_names
        if len(names) < 2:
            return {}
        device = next(task.parameters()).device
        outputs = [task.forward({"input": some[:, None].to(device)}) for some in chosen.split(256)]
        if any("logits" not in one for one in outputs):
            return {}
        chances = torch.cat([one["logits"].float().softmax(1).cpu() for one in outputs])
        if len(names) == 2:
            polarity = (chances[:, 1] - chances[:, 0]).tolist()
            title = f"polarity: -1 {names[0]}, 1 {names[1]}"
            return {_on_one_line(title): [f"{value:.3f}" for value in polarity]}
        likeliest = chances.argmax(1).tolist()
        return {"class": [_on_one_line(names[number]) for number in likeliest]}


def _magnitude(frequency: float) -> str:
    return f"{math.log10(frequency):.2f}" if frequency > 0 else ""


def _on_one_line(word: str) -> str:
    """The word without tabs and line breaks, which part the file; blanks alone in quotes."""
    return " ".join(word.split()) or repr(word)


def _config(*shape: int) -> str:
    """What TensorBoard reads."""
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "words"
    embedding.tensor_path, embedding.metadata_path = VECTORS, LABELS
    embedding.tensor_shape.extend(shape)
    return str(config)
