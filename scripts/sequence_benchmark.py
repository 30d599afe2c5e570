"""Real tokens a second of training a bidirectional LSTM on IMDB, by how reviews are batched.

    python scripts/sequence_benchmark.py                     # speed; the table goes to the screen
    python scripts/sequence_benchmark.py --rounds 5 --steps 40

Two layers, vectors of 100, 256 units each way, batches of 64, Adam; reviews cut at 400 words
unless --max-length says otherwise. Each measurement is a fresh process; variants take turns.
Padding is not counted as tokens. ``random, padded`` is what tutorials do: batches at random, padded
to their longest, and the padding read. ``packed`` is torch's ``pack_padded_sequence``. Gradients
that reach back over hundreds of steps become denormal numbers, which processors are slow with; all
variants but the last flush them to zero. IMDB is read from DLTRAIN_DATA, else from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltrain.contracts.data import Batch, DataSpec, Stream

ROOT = Path(__file__).resolve().parents[1]
WIDTH, UNITS, LAYERS, BATCH = 100, 256, 2, 64
# Every variant: how batches are made, how they are read, in what precision, and whether denormal
# numbers are flushed to zero.
VARIANTS = {
    "random, padded": ("random", "padded", "float32", True),
    "bucketed, padded": ("bucketed", "padded", "float32", True),
    "bucketed, packed": ("bucketed", "packed", "float32", True),
    "bucketed, exact": ("bucketed", "exact", "float32", True),
    "bucketed, exact, bfloat16": ("bucketed", "exact", "bfloat16", True),
    "random, padded, denormals kept": ("random", "padded", "float32", False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--max-length", type=int, default=400, help="0: whole reviews")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.steps, arguments.max_length or None)))
        return
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in arguments.variants}
    for _ in range(arguments.rounds):
        for variant in arguments.variants:
            command = [sys.executable, __file__, "--one", variant, "--steps", str(arguments.steps)]
            command += ["--max-length", str(arguments.max_length)]
            found[variant].append(json.loads(subprocess.check_output(command, text=True)))
    reference = arguments.variants[0]
    first = found[reference]
    print(f"| variant | real tokens/s | times {reference!r} | padding | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for variant, results in found.items():
        ratios = [a["speed"] / b["speed"] for a, b in zip(results, first, strict=True)]
        middle = {name: statistics.median(r[name] for r in results) for name in results[0]}
        print(
            f"| {variant} | {middle['speed']:,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {middle['padding']:.0%} "
            f"| {middle['memory']:,.0f} |"
        )


def measure(variant: str, steps: int, max_length: int | None) -> dict[str, float]:
    """Tokens a second over ``steps`` training steps, after three that warm up."""
    import torch
    from torch.nn import functional

    from dltrain.contracts.data import Placement
    from dltrain.data.text.imdb import Imdb

    batching, reading, precision, flush = VARIANTS[variant]
    torch.set_flush_denormal(flush)
    beside = ROOT.parent / "shared" / "data"
    source = Imdb(
        copies=os.environ.get("DLTRAIN_DATA", str(beside)),
        root="~/.cache/dltrain",
        max_length=max_length,
        batch_size=BATCH,
        validation=0,
    )
    torch.manual_seed(0)
    spec = source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    batches = {"random": at_random, "bucketed": in_order}[batching](stream)
    model = {"padded": Padded, "packed": Packed, "exact": exact}[reading](spec)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    tokens = places = 0
    started = time.perf_counter()
    for number in range(-3, steps):
        if number == 0:
            tokens = places = 0
            started = time.perf_counter()
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = functional.cross_entropy(model(batch["input"]), batch["target"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int((batch["input"] != 0).sum())
        places += batch["input"].numel()
    seconds = time.perf_counter() - started
    return {
        "speed": tokens / seconds,
        "padding": 1 - tokens / places,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_order(stream: Stream) -> Iterator[Batch]:
    """The stream's own batches, epoch after epoch."""
    for epoch in count():
        yield from stream.batches(epoch)


def at_random(stream: Stream) -> Iterator[Batch]:
    """The same reviews, but each batch a random one, padded to its longest."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows, targets = [], []
    for batch in stream.batches(0):
        rows += [ids[ids != 0] for ids in batch["input"]]
        targets += batch["target"].tolist()
    while True:
        for chosen in torch.randperm(len(rows)).split(BATCH):
            picked = chosen.tolist()
            yield {
                "input": pad_sequence([rows[row] for row in picked], batch_first=True),
                "target": torch.tensor([targets[row] for row in picked]),
            }


def exact(spec: DataSpec) -> Any:
    """The project's own network."""
    from dltrain.models.sequence.recurrent import LSTM

    sizes = {"embedding_size": WIDTH, "hidden_size": UNITS, "layers": LAYERS}
    return LSTM(spec, spec.facts()["outputs"], **sizes, bidirectional=True)


def by_hand(read: Callable[[Any, Any, Any], Any]) -> Callable[[DataSpec], Any]:
    """A network as one would write it, which ``read`` brings from vectors to last states."""

    def make(spec: DataSpec) -> Any:
        import torch
        from torch import nn

        facts = spec.facts()

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(facts["vocabulary_size"], WIDTH, padding_idx=0)
                self.layers = nn.LSTM(WIDTH, UNITS, LAYERS, batch_first=True, bidirectional=True)
                self.output = nn.Linear(2 * UNITS, facts["outputs"])

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                return self.output(read(self.layers, self.embedding(ids), ids))

        return Network()

    return make


def _padded(layers: Any, vectors: Any, ids: Any) -> Any:
    import torch

    _, (states, _) = layers(vectors)
    return torch.cat([states[-2], states[-1]], 1)


def _packed(layers: Any, vectors: Any, ids: Any) -> Any:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    lengths = (ids != 0).sum(1).cpu()
    packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
    _, (states, _) = layers(packed)
    return torch.cat([states[-2], states[-1]], 1)


Padded, Packed = by_hand(_padded), by_hand(_packed)

if __name__ == "__main__":
    main()
