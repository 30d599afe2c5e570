"""What several processes cannot train together, refused before a run begins or as it fails."""

from __future__ import annotations

from collections.abc import Mapping

from dltrain.assemble import Parts
from dltrain.contracts.acting import Acts
from dltrain.contracts.run import Group
from dltrain.engine.parallel.ranks import Ranks
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.optim.groups import gives_rows


def require_dividable(parts: Parts, groups: Mapping[str, Group], ranks: Ranks) -> None:
    """Raise :class:`ConfigError` with all that several processes cannot do together."""
    if not ranks.several:
        return
    settings, several = (
        parts.settings,
        f"goes on in one process, and torchrun started {ranks.world}",
    )
    faults = []
    if isinstance(parts.task, Acts):
        faults.append(Fault("task", f"what learns by acting {several}.", "Train seeds by -m."))
    if any(gives_rows(parts.task, group) for group in groups.values()):
        faults.append(Fault("model.sparse", f"a gradient of a few rows {several}."))
    if settings.cuda_graph == "on":
        faults.append(Fault("trainer.cuda_graph", f"a recorded step {several}.", "Set it to off."))
    if settings.compile == "auto":
        hint = "Set trainer.compile=on or off."
        faults.append(Fault("trainer.compile", f"auto, which compares times, {several}.", hint))
    if settings.release_gradients:
        what = f"a gradient that is stepped as it comes {several}."
        faults.append(Fault("trainer.release_gradients", what, "Set it to false."))
    if settings.parallel is not None:
        undivided = "needs all weights in one place, and trainer.parallel divides them."
        told = {
            "modifiers": bool(parts.modifiers),
            "regularizer": any(not one.weight_decay for one in parts.regularizers),
            "trainer.accumulate": settings.accumulate > 1,
        }
        faults += [Fault(key, undivided, joint=" ") for key, there in told.items() if there]
        if settings.precision == "float16":
            what = "float16 looks at all gradients at once, and trainer.parallel divides them."
            faults.append(Fault("trainer.precision", what, "bfloat16 does not."))
    if faults:
        raise ConfigError(faults)
    settings.cuda_graph = "off"


def require_own_passes(error: Exception) -> None:
    """Raise :class:`UserError` where weights that are divided were not put together for a pass."""
    if "torch.Tensor and DTensor" in str(error):
        raise UserError(
            "trainer.parallel: this network uses the weights of a layer beside that layer's own "
            "pass. Set trainer.parallel.smallest above the number of its parameters, or leave "
            "trainer.parallel out."
        ) from error
