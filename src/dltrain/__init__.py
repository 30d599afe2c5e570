"""dltrain: train every classic deep-learning model from one command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dltrain.from_python import train as train
    from dltrain.inference.predictor import load as load

    __version__: str

PLACES = {"load": "dltrain.inference.predictor", "train": "dltrain.from_python"}
"""The module of each name that is imported when it is asked for."""


def __getattr__(name: str) -> object:
    """What takes long to import, when it is asked for (PEP 562): torch, packages' versions."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dltrain")
    if name in PLACES:
        from importlib import import_module

        from dltrain.engine.runtime import imports_without_traces

        with imports_without_traces():
            return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module 'dltrain' has no attribute {name!r}")
