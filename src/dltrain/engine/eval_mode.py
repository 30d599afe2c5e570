"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in eval mode inside the ``with`` block, and back in its own after it."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
