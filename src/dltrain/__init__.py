"""dltrain: train every classic deep-learning model from one command line."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dltrain.run import load as load

__version__ = version("dltrain")


def __getattr__(name: str) -> object:
    """``dltrain.load`` without importing torch before it is asked for (PEP 562)."""
    if name == "load":
        from dltrain.run import load

        return load
    raise AttributeError(f"module 'dltrain' has no attribute {name!r}")
