"""Why a network of the user's own fails on its first batch: which layer, and what shapes meet."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dltrain.contracts.data import Batch
from dltrain.contracts.task import Task
from dltrain.errors import UserError

OWN = "dltrain"


def explain(task: Task, batch: Batch, error: Exception) -> UserError | None:
    """An error to raise in the place of ``error``, which a step or an answer has ended with.

    None where the network is none of the user's own: then it is a bug of ours, and keeps its
    traceback. The forward is run once more, watched by hooks; nobody pays for them before.
    """
    entered: list[tuple[str, nn.Module, Any]] = []
    failed = _forward(task, batch, entered)
    if failed is None:
        return _of_the_loss(task, batch, error)
    if all(_is_ours(module) for _, module, _ in entered[:2]):  # the task, and its network
        return None
    name, module, inputs = entered[-1]
    path = name.removeprefix("model.")
    what = type(module).__name__
    where = what if name in ("", "model") else f"its layer {path} ({what})"
    own = dict(module.named_parameters(recurse=False))
    shapes = [f"input {_shapes(inputs)}", *(f"{n} {_shape(p)}" for n, p in own.items())]
    return UserError(
        f"model: {where} fails: {_first_line(failed)}. "
        f"Shapes, the batch first: {'; '.join(shapes)}.{_place(failed)}"
    )


def _forward(
    task: Task, batch: Batch, entered: list[tuple[str, nn.Module, Any]]
) -> Exception | None:
    """Run it; return what it raised. ``entered`` are the modules that were not left, in order."""
    handles = []
    for name, module in task.named_modules():

        def before(module: nn.Module, args: Any, named: Any, name: str = name) -> None:
            entered.append((name, module, (args, named)))

        def after(module: nn.Module, args: Any, output: Any) -> None:
            entered.pop()

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        with torch.no_grad():
            task(batch)
    except Exception as error:
        return error
    finally:
        for handle in handles:
            handle.remove()
    return None


def _of_the_loss(task: Task, batch: Batch, error: Exception) -> UserError | None:
    """The network answers, but its answer is nothing that the task can learn from."""
    model = next(iter(task.children()), None)
    steps = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if "train_step" not in steps or model is None or _is_ours(model):
        return None
    with torch.no_grad():
        outputs = task(batch)
    shapes = [f"{name} {_shape(column)}" for name, column in {**batch, **outputs}.items()]
    return UserError(
        f"model: the task cannot learn from what {type(model).__name__} gives: "
        f"{_first_line(error)}. Shapes, the batch first: {'; '.join(shapes)}.{_place(error)}"
    )


def _is_ours(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] == OWN


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
    told_by_itself = isinstance(error, (RuntimeError, ValueError)) or not str(error)
    return line if told_by_itself else f"{type(error).__name__}: {line}"


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _shapes(inputs: Any) -> str:
    found = [_shape(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return " and ".join(found) or "none"


def _place(error: Exception) -> str:
    """The last line of code that is neither torch's nor ours."""
    places = list(_places(error))
    return f" ({places[-1]})" if places else ""


def _places(error: Exception) -> Iterator[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in (OWN, "torch", "torchvision"):
            yield f"{frame.f_code.co_filename}, line {line}"
