"""dltrain: train every classic deep-learning model from one command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dltrain.inference.predictor import load as load

    __version__: str


def __getattr__(name: str) -> object:
    """What takes long to import, when it is asked for (PEP 562): torch, packages' versions."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dltrain")
    if name == "load":
        from dltrain.inference.predictor import load

        return load
    raise AttributeError(f"module 'dltrain' has no attribute {name!r}")
