"""Word vectors for TensorBoard's embedding projector."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dltrain.errors import UserError
from dltrain.trainer import Trainer
from dltrain.types import Callback, Loaders

CONFIG = "projector_config.pbtxt"
VECTORS, LABELS = "projector/tensors.tsv", "projector/metadata.tsv"


@runtime_checkable
class Embedded(Protocol):
    """A network whose words have vectors."""

    def embedding_weight(self) -> Tensor | None:
        """The vectors (words, width); None where there are none."""


class Projector(Callback):
    """The vectors of the ``most_words`` most frequent words, with labels, as the run ends.

    Writes ``projector/tensors.tsv``, ``projector/metadata.tsv`` (a word and its share of the
    training text) and, for TensorBoard, ``projector_config.pbtxt``. A TensorBoard that was
    running before shows them once it is started anew or another run begins.

    Raises :class:`UserError` where the data has no ``words`` with their ``word_frequencies``; of
    a network without word vectors there is a note.
    """

    def __init__(
        self,
        most_words: int = 2000,
        words: Sequence[str] | None = None,
        word_frequencies: Sequence[float] | None = None,
        pad_index: int | None = None,
    ) -> None:
        if most_words < 1:
            raise ValueError(f"most_words is at least 1, got {most_words}")
        self.most_words = most_words
        self.words, self.pad_index = words or (), pad_index
        self.shares = np.array(word_frequencies or ())

    def check(self, loaders: Loaders) -> None:
        """See that there are words."""
        if not self.words or len(self.words) != len(self.shares):
            raise UserError(
                "callbacks.projector: it shows vectors of words, but this data has none; leave it "
                "out of callbacks."
            )

    def end(self, trainer: Trainer, status: str) -> None:
        """Write the vectors as they are now."""
        if status == "failed":
            return
        table = _vectors(trainer)
        if table is None:
            print("note: callbacks.projector shows nothing: the model has no word vectors")
            return
        chosen = np.argsort(-self.shares, kind="stable")
        chosen = chosen[chosen != self.pad_index][: self.most_words]
        vectors = io.StringIO()
        np.savetxt(vectors, table.numpy()[chosen], fmt="%.6g", delimiter="\t")
        rows = [f"{_on_one_line(self.words[i])}\t{self.shares[i]:.3g}" for i in chosen]
        trainer.folder.write_text(VECTORS, vectors.getvalue())
        trainer.folder.write_text(LABELS, "\n".join(["word\tshare of the text", *rows, ""]))
        trainer.folder.write_text(CONFIG, _config(len(chosen), table.shape[1]))


def _vectors(trainer: Trainer) -> Tensor | None:
    """Those of the first network in the task that has some, on the CPU."""
    for module in trainer.task.modules():
        if isinstance(module, Embedded):
            with torch.no_grad():
                table = module.embedding_weight()
            return None if table is None else table.detach().float().cpu()
    return None


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
