"""A network that is to leave dltrain: its inputs and outputs by name, and what to try it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.preprocessing import Preprocessing, TensorSteps
from dltrain.contracts.task import (
    Exportable,
    Exports,
    Predicting,
    Predictions,
    Predicts,
    Task,
)
from dltrain.errors import UserError

INPUT = "input"
LONGER = 5
"""By how many steps what is ragged is padded, to see that padding changes nothing."""


class Flat(nn.Module):
    """Tensors in, tensors out: ``network`` behind ``steps``, and its columns in order."""

    def __init__(self, network: nn.Module, steps: Mapping[int, TensorSteps]) -> None:
        super().__init__()
        self.network = network
        self.steps = nn.ModuleDict({str(place): step for place, step in steps.items()})

    def forward(self, *raw: Tensor) -> tuple[Tensor, ...]:
        """The columns of the predictions."""
        inputs = [
            self.steps[str(place)](one) if str(place) in self.steps else one
            for place, one in enumerate(raw)
        ]
        return tuple(self.network(*inputs).columns.values())


@dataclass(frozen=True)
class Network:
    """``flat`` takes ``inputs`` in order, and returns columns that ``fields`` describe.

    ``original`` answers a batch as the run does, ``batch`` is the same examples as it reads them.
    ``ragged`` are inputs whose second axis varies, and what they are padded with.
    """

    name: str
    flat: Flat
    inputs: Batch
    fields: Mapping[str, Field]
    original: nn.Module
    batch: Batch
    ragged: Mapping[str, int | float]
    about: Mapping[str, Mapping[str, Any]]

    def trials(self) -> list[tuple[Batch, Predictions]]:
        """Inputs to compare on, and what the run says of them.

        All examples at once, one alone, and where lengths vary both again: as short as it is
        without its padding, and with more padding than there was.
        """
        first = tuple({n: c[:1] for n, c in some.items()} for some in (self.inputs, self.batch))
        pairs = [(self.inputs, self.batch), (self._cut(first[0]), self._cut(first[1]))]
        if self.ragged:
            longest = max(self.inputs[name].shape[1] for name in self.ragged)
            pairs.append((self.padded(self.inputs, longest + LONGER), self.batch))
        with torch.no_grad():
            return [(inputs, self.original(*batch.values())) for inputs, batch in pairs]

    def padded(self, inputs: Batch, length: int) -> Batch:
        """The same, with what is ragged padded to ``length`` steps where it has fewer."""
        found = dict(inputs)
        for name, fill in self.ragged.items():
            column = inputs[name]
            missing = (len(column), max(0, length - column.shape[1]), *column.shape[2:])
            found[name] = torch.cat([column, column.new_full(missing, fill)], 1)
        return found

    def _cut(self, batch: Batch) -> Batch:
        """Without the steps of a ragged column that are padding in all rows."""
        found = dict(batch)
        for raw, (name, column) in zip(self.inputs, batch.items(), strict=True):
            if raw in self.ragged:
                real = (
                    (column != self.ragged[raw]).flatten(2).any(2)
                    if column.ndim > 2
                    else (column != self.ragged[raw])
                )
                found[name] = column[:, : max(1, int(real.sum(1).max()))]
        return found


def networks_of(
    task: Task, spec: DataSpec, examples: Batch, steps: Preprocessing | None
) -> list[Network]:
    """What can be used of a trained ``task`` without dltrain, the chief network first.

    ``examples`` are inputs as networks read them. Raises :class:`UserError` where it is nothing.
    """
    if isinstance(task, Exports):
        found = task.exports(examples)
    elif isinstance(task, Predicts):
        examples = _asked(task, examples)
        found = {"model": Exportable(Predicting(task, list(examples)), examples)}
    else:
        raise UserError(f"there is nothing to export: {type(task).__name__} predicts nothing.")
    return [
        _network(name, one, spec, steps if one.batch is examples else None)
        for name, one in found.items()
    ]


def _network(
    name: str, exportable: Exportable, spec: DataSpec, steps: Preprocessing | None
) -> Network:
    network, batch, about = exportable
    inputs: Batch = {}
    ragged: dict[str, int | float] = {}
    before: dict[int, TensorSteps] = {}
    for place, (column, values) in enumerate(batch.items()):
        raw = column
        inputs[raw] = values
        if steps is not None and column == INPUT:
            raw, before[place] = steps.name, steps.tensors
            del inputs[column]
            inputs[raw] = steps.tensors.restore(values)
        field = spec.fields.get(column)
        if field is not None and field.fill is not None and field.shape[:1] == (None,):
            ragged[raw] = field.fill
    with torch.no_grad():
        predicted = network.eval()(*batch.values()).fields
    # A file has one name for one thing, and images may go in and come out.
    fields = {f"output_{n}" if n in inputs else n: field for n, field in predicted.items()}
    flat = Flat(network, before).eval()
    return Network(name, flat, inputs, fields, network, batch, ragged, about)


def _asked(task: Predicts, examples: Batch) -> Batch:
    """Those columns that a prediction looks at: no others are to be given."""
    seen: list[str] = []

    class Watched(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            seen.append(name)
            return super().__getitem__(name)

    task.predict(Watched(examples))
    return {name: column for name, column in examples.items() if name in seen}


def described(network: Network, shortest: int) -> dict[str, Any]:
    """Inputs and outputs, for JSON; what is ragged has at least ``shortest`` steps."""
    with torch.no_grad():
        outputs = network.flat(*network.inputs.values())
    return {
        "inputs": [
            _input(network, name, column, shortest) for name, column in network.inputs.items()
        ],
        "outputs": [
            {
                "name": name,
                "dtype": _dtype(column),
                "shape": ["batch", *column.shape[1:]],
                "kind": network.fields[name].kind,
                "names": list(network.fields[name].names),
                **({"colors": colors} if (colors := network.fields[name].colors) else {}),
            }
            for name, column in zip(network.fields, outputs, strict=True)
        ],
    }


def _input(network: Network, name: str, column: Tensor, shortest: int) -> dict[str, Any]:
    shape: list[int | str] = ["batch", *column.shape[1:]]
    found: dict[str, Any] = {"name": name, "dtype": _dtype(column), "shape": shape}
    found |= network.about.get(name, {})
    if name in network.ragged:
        shape[1] = "length"
        found |= {"fill": network.ragged[name], "shortest": shortest}
    return found


def _dtype(column: Tensor) -> str:
    return str(column.dtype).removeprefix("torch.")
