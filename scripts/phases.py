"""What a phase costs: processor time of a thousand clients of one step, against a plain run.

    python scripts/phases.py

Both runs make the same number of steps of the same size on the bundled digits; one has a phase a
step, for which weights are sent, averaged and counted, and an optimizer begins anew.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time

from dltrain import training
from dltrain.config import compose as composition

PHASES, PER_ROUND, BATCH = 1000, 10, 12
COMMON = (
    *("data=digits", "data.validation=0", "data.limit=1200", f"data.batch_size={BATCH}"),
    *("model=mlp", "optimizer=sgd", "schedule=constant", "callbacks=none", "device=cpu"),
    *("trainer.evaluate_every=1000", "trainer.checkpoint_seconds=1000"),
)


def seconds(*overrides: str) -> float:
    """Processor time of a whole run."""
    with tempfile.TemporaryDirectory() as outputs, contextlib.redirect_stdout(io.StringIO()):
        config = composition.compose([*COMMON, *overrides])
        begun = time.process_time()
        training.train({**config, "output_dir": outputs})
        return time.process_time() - begun


def main() -> None:
    clients = (
        *("federated=fedavg", "federated.clients=100", f"federated.per_round={PER_ROUND}"),
        f"trainer.epochs={PHASES // PER_ROUND}",
    )
    seconds(f"trainer.steps={BATCH}")  # what is imported once
    plain = [seconds(f"trainer.steps={PHASES}") for _ in range(3)]
    phased = [seconds(*clients) for _ in range(3)]
    each = (min(phased) - min(plain)) / PHASES * 1000
    told = f"{min(plain):.2f} s; as phases: {min(phased):.2f} s; {each:.2f} ms each"
    print(f"{PHASES:,} steps: {told}")


if __name__ == "__main__":
    main()
