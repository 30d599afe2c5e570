"""The table of layers: what each costs, whether or not torch's own counter sees into it."""

from __future__ import annotations

import pytest
import torch

from dltrain.models.recurrent import GRU, LSTM, RNN, Recurrent
from dltrain.summary import summarise
from dltrain.tasks.text import TextClassification

WORDS, WIDTH, HIDDEN, STEPS = 50, 4, 8, 10


@pytest.mark.parametrize(("kind", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_a_recurrent_layer_multiplies_by_its_matrices_at_every_step(
    kind: type[Recurrent], gates: int
) -> None:
    sizes = {"vocabulary_size": WORDS, "hidden_size": HIDDEN, "embedding_size": WIDTH}
    model = kind(outputs=2, bidirectional=False, **sizes)
    task = TextClassification(model, ["no", "yes"], [str(word) for word in range(WORDS)])
    rows = summarise(task, {"input": torch.randint(2, WORDS, (3, STEPS))}).rows
    costs = {row[0]: row[3] for row in rows}
    layer = STEPS * gates * HIDDEN * (WIDTH + HIDDEN)
    assert costs[f"layers.0.0 ({kind.__name__})"] == layer
    assert costs["total"] == layer + HIDDEN * 2
