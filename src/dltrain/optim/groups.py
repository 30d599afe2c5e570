"""Which of a task's parameters may decay and be limited."""

from __future__ import annotations

from torch import nn

from dltrain.contracts.run import Group
from dltrain.contracts.task import Task

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def groups_of(task: Task) -> dict[str, Group]:
    """The task's parameter groups, each with the weights that decay and limits may touch.

    Biases, scales and shifts (anything with fewer than two dimensions) and whatever belongs
    to a normalization layer are not among these.
    """
    norm_parameters = {
        parameter
        for module in task.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters()
    }
    return {
        name: Group(
            parameters,
            [p for p in parameters if p.ndim > 1 and p.requires_grad and p not in norm_parameters],
        )
        for name, parameters in task.parameter_groups().items()
    }


def gives_rows(task: Task, group: Group) -> bool:
    """Whether gradients of some of ``group`` have a few rows alone (``sparse`` of embeddings)."""
    sparse = {
        module.weight
        for module in task.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse
    }
    return not sparse.isdisjoint(group.parameters)
