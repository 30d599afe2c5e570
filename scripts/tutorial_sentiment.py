"""What the tutorials' sentiment code gives on IMDB: networks that read the padding.

    python scripts/tutorial_sentiment.py                     # the plain RNN of experiment=imdb_rnn
    python scripts/tutorial_sentiment.py --network bilstm    # that of experiment=imdb_bilstm

Batches are drawn at random and padded on the right to their longest review; the answer is made of
the states that torch returns as the last, which have read all of the padding. Sizes, rates, epochs
and clipping are those of the two recipes; initial weights are torch's own. Accuracy on the official
test split after the last epoch. IMDB is read from DLTRAIN_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from dltrain.contracts.data import Placement
from dltrain.data.text.imdb import Imdb
from dltrain.runs.environment import choose_precision

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = {"rnn": 10, "bilstm": 5}
BATCH = {"rnn": 128, "bilstm": 64}
DROPOUT = {"rnn": 0.0, "bilstm": 0.5}
WORDS, WIDTH, UNITS = 20_000, 100, 256


class Tutorial(nn.Module):
    """Embedding, recurrent layers, and a classifier of the states that come last."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        both_ways = network == "bilstm"
        self.layers: nn.RNNBase = (
            nn.LSTM(WIDTH, UNITS, 2, batch_first=True, bidirectional=True, dropout=0.5)
            if both_ways
            else nn.RNN(WIDTH, UNITS, batch_first=True)
        )
        self.dropout = nn.Dropout(DROPOUT[network])
        self.output = nn.Linear(2 * UNITS if both_ways else UNITS, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (batch, time) to logits (batch, 2)."""
        last = self.layers(self.dropout(self.embedding(ids)))[1]
        states = last[0][-2:] if isinstance(last, tuple) else last
        return self.output(self.dropout(torch.cat(tuple(states), 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=EPOCHS, default="rnn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    beside = ROOT.parent / "shared" / "data"
    source = Imdb(
        copies=os.environ.get("DLTRAIN_DATA", str(beside)),
        root="~/.cache/dltrain",
        vocabulary_size=WORDS,
        validation=0,
    )
    source.read(0)
    streams = source.open(Placement(torch.device("cpu"), 0))
    train, test = (
        [(ids[ids != 0], int(target)) for b in streams[name].plain() for ids, target in pairs(b)]
        for name in ("train", "test")
    )
    for seed in arguments.seeds:
        started = time.perf_counter()
        accuracy = trained(arguments.network, seed, train, test)
        seconds = time.perf_counter() - started
        print(f"{arguments.network} seed={seed}: {accuracy:.2%} in {seconds:.0f} s", flush=True)


def pairs(batch: dict[str, Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(batch["input"], batch["target"], strict=True)


def trained(
    network: str, seed: int, train: list[tuple[Tensor, int]], test: list[tuple[Tensor, int]]
) -> float:
    """The accuracy on ``test`` after all epochs on ``train``."""
    torch.manual_seed(seed)
    model = Tutorial(network)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    halved = choose_precision("auto", torch.device("cpu")) == "bfloat16" and network == "bilstm"
    # Entered anew at every step: until it ends, it keeps copies of the weights.
    precision = partial(torch.autocast, "cpu", torch.bfloat16, enabled=halved)
    for epoch in range(EPOCHS[network]):
        total = torch.zeros(())
        for rows in torch.randperm(len(train)).split(BATCH[network]):
            ids, targets = batch([train[row] for row in rows.tolist()])
            optimizer.zero_grad()
            with precision():
                loss = functional.cross_entropy(model(ids), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.detach() * len(rows)
        print(f"  epoch {epoch + 1}: loss {total / len(train):.4f}", file=sys.stderr, flush=True)
    model.eval()
    hits = 0
    with torch.inference_mode(), precision():
        for rows in torch.randperm(len(test)).split(256):
            ids, targets = batch([test[row] for row in rows.tolist()])
            hits += int((model(ids).argmax(1) == targets).sum())
    return hits / len(test)


def batch(reviews: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Ids (batch, time), padded on the right with 0, and targets (batch,)."""
    rows, targets = zip(*reviews, strict=True)
    return pad_sequence(list(rows), batch_first=True), torch.tensor(targets)


if __name__ == "__main__":
    main()
