"""``dltrain batch-find``: the largest batch that fits into a CUDA device's memory.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dltrain.commands.arguments import Parser
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.config.punctuation import with_quotes
from dltrain.config.quoting import override
from dltrain.errors import UserError


def batch_find(arguments: Sequence[str]) -> int:
    """Try sizes, and say which fit; return the exit code.

    Raises :class:`UserError` without a CUDA device, and where not one example fits.
    """
    config_dir, rest = take_value(with_quotes(arguments), CONFIG_DIR)
    parser = Parser(
        "batch-find",
        "Train three steps with larger and larger batches, and see which is the largest that fits "
        "into the memory of the CUDA device. No run is kept.",
        ["model=alexnet data=cifar10", "model=resnet18 data=cifar10 trainer.precision=auto"],
        more="KEY=VALUE …",
        run="",
    )
    overrides = parser.overrides(parser.parse(rest))
    from dltrain.config import compose as composition

    composition.use_folder(config_dir)
    config = composition.compose(overrides)
    from dltrain.tuning.batch_size import largest, peak_memory, require_cuda

    device = require_cuda(config)
    start = config["data"]["batch_size"]
    _, examples = peak_memory(config, 1, device)
    print(f"{'batch size':>10}  memory")

    def fits(size: int) -> bool:
        peak, _ = peak_memory(config, size, device)
        print(
            f"{size:>10,}  {'too much' if peak is None else f'{peak / 2**30:.2f} GiB'}", flush=True
        )
        return peak is not None

    found = largest(fits, start, max(examples, 1))
    if found is None:
        raise UserError("batch-find: not one example fits into the memory of this device.")
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    command = shlex.join(["dltrain", *folder, *overrides])
    print(f"\n{command} {override('data.batch_size', found)}")
    return 0
