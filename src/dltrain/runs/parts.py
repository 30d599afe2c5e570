"""Tensors that are divided among ranks, in a checkpoint: each rank writes what it has.

``torch.distributed.checkpoint`` plans who writes what, and who reads what in a world of another
size. Its files are not used: ``.metadata`` is a pickle that its reader loads without limits, which
executes what a stranger has put there. Here the index is a part of the checkpoint's own file, and
each rank writes one more of that kind; all are read as weights are.

A checkpoint ``last.pt`` whose index names the folder ``NAME.parts`` has the tensors of rank N in
``NAME.parts/N.pt``. That file is written when all of these are: a folder that no checkpoint names
is none.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from dltrain.engine.parallel.stored import Stored
from dltrain.files import make_room, own
from dltrain.runs import durable
from dltrain.tensor_files import read_tensors

Place = tuple[Any, ...]
"""Where a tensor stands in a checkpoint's state: the keys that lead to it."""
ENDING = ".parts"
NAME = re.compile(r"[0-9a-f]{16}")


def folder_of(name: str) -> str:
    """The folder of the parts called ``name``, within that of the run."""
    return f"checkpoints/{name}{ENDING}"


def write(run: Path, name: str, tensors: Mapping[Place, Tensor]) -> dict[str, Any]:
    """Write what this rank has of ``tensors``, which are DTensors; all ranks do so together.

    Returns the index, which is whole on rank 0 alone. Raises :class:`OSError` where that of any
    rank could not be written.
    """
    writer = _Writer(run, name)
    keys = {str(number): where for number, where in enumerate(tensors)}
    try:
        save(
            dict(zip(keys, tensors.values(), strict=True)),
            storage_writer=writer,
            planner=DefaultSavePlanner(flatten_state_dict=False),
        )
    except CheckpointException as error:  # torch has no Exception of it
        for failure, _ in error.failures.values():
            if isinstance(failure, OSError):
                raise failure from None
        first, _ = next(iter(error.failures.values()))
        raise RuntimeError(f"a checkpoint could not be written: {first}") from error
    index = [{"at": list(keys[key]), **entry} for key, entry in writer.index.items()]
    return {"name": name, "tensors": index}


class _Writer(StorageWriter):
    """Writes a rank's tensors as one file, and makes an index of plain values."""

    def __init__(self, run: Path, name: str) -> None:
        self._run, self._name = run, name
        self.index: dict[str, dict[str, Any]] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        return None

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        return None

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Number the ranks."""
        return [dataclasses.replace(p, storage_data=number) for number, p in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        number = plan.storage_data
        tensors = [_alone(planner.resolve_data(item)) for item in plan.items]
        path = make_room(self._run, f"{folder_of(self._name)}/{number}.pt")
        content = {"parts": self._name, "tensors": tensors}
        durable.write_whole(path, partial(torch.save, content))
        done: Future[list[WriteResult]] = Future()
        done.set_result(
            [
                WriteResult(item.index, tensor.nbytes, (number, place))
                for place, (item, tensor) in enumerate(zip(plan.items, tensors, strict=True))
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On rank 0, once all have written."""
        places = {one.index: one.storage_data for of_rank in results for one in of_rank}
        for key, found in metadata.state_dict_metadata.items():
            assert isinstance(found, TensorStorageMetadata)
            self.index[key] = {
                "shape": list(found.size),
                "dtype": found.properties.dtype,
                "parts": [
                    [*places[MetadataIndex(key, one.offsets)], list(one.offsets), list(one.sizes)]
                    for one in found.chunks
                ],
            }
        durable.sync_folder(self._run / "checkpoints")

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


def _alone(tensor: Any) -> Tensor:
    """A rank's part, with no more in its storage, on the CPU."""
    part: Tensor = tensor.detach().cpu()
    return part if part.untyped_storage().nbytes() == part.nbytes else part.clone()


@dataclasses.dataclass(frozen=True)
class _Part:
    """A box of a tensor: from ``offsets``, of ``sizes``; where it lies."""

    file: int
    place: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class Parts:
    """The parts that a checkpoint's ``index`` names, in the folder of its run.

    Files are mapped into memory, and read as far as somebody asks. Raises :class:`ValueError` for
    an index that is none: whose boxes are not the whole of a tensor, each once.
    """

    def __init__(self, run: Path, index: Any) -> None:
        name = index["name"]
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise ValueError("it names no folder of parts")
        self._run, self._name = run, name
        self._open: dict[int, list[Tensor]] = {}
        self.tensors = {tuple(entry["at"]): _StoredParts(self, entry) for entry in index["tensors"]}
        self._files = sorted({one.file for found in self.tensors.values() for one in found.parts})
        claimed = sum(t.dtype.itemsize * math.prod(t.shape) for t in self.tensors.values())
        there = sum(self._path(number).stat().st_size for number in self._files)
        if claimed > there:
            raise ValueError(f"its index tells of {claimed:,} bytes, and {there:,} are there")

    def require_whole(self, rank: int = 0, world: int = 1) -> None:
        """Read those files that are ``rank``'s to check, which raises what is wrong with one."""
        mine = set(self._files[rank::world])
        for stored in self.tensors.values():
            for part in stored.parts:
                if part.file in mine:
                    stored.read(part)

    def file(self, number: int) -> list[Tensor]:
        """The tensors of a file."""
        if number not in self._open:
            path = self._path(number)
            content = read_tensors(path, mapped=True)
            if not isinstance(content, Mapping) or content.get("parts") != self._name:
                raise ValueError(f"{path.name} is of another checkpoint")
            self._open[number] = content["tensors"]
        return self._open[number]

    def _path(self, number: int) -> Path:
        return own(self._run, f"{folder_of(self._name)}/{number}.pt")


class _StoredParts(Stored):
    """A tensor of an index."""

    def __init__(self, parts: Parts, entry: Mapping[str, Any]) -> None:
        self._all = parts
        self.shape, self.dtype = torch.Size(entry["shape"]), entry["dtype"]
        if not isinstance(self.dtype, torch.dtype):
            raise ValueError("its index has a tensor without a kind of number")
        self.parts = [
            _Part(_number(file), _number(place), tuple(offsets), tuple(sizes))
            for file, place, offsets, sizes in entry["parts"]
        ]
        _require_tiled(self.shape, self.parts)

    def fill(self, target: Tensor) -> Tensor:
        planner = DefaultLoadPlanner(flatten_state_dict=False)
        chunks = [
            ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes))
            for one in self.parts
        ]
        properties = TensorProperties(dtype=self.dtype)
        metadata = Metadata({"": TensorStorageMetadata(properties, self.shape, chunks)})
        places = {torch.Size(one.offsets): one for one in self.parts if math.prod(one.sizes)}
        planner.set_up_planner({"": target}, metadata, True)
        for item in planner.create_local_plan().items:
            assert item.storage_index.offset is not None
            source = self.read(places[item.storage_index.offset])
            for side, (start, length) in enumerate(
                zip(item.storage_offsets, item.lengths, strict=True)
            ):
                source = source.narrow(side, start, length)
            with torch.no_grad():
                planner.resolve_tensor(item).detach().copy_(source)
        return target

    def read(self, part: _Part) -> Tensor:
        """What a part has. Raises :class:`ValueError` where it is not what the index tells of."""
        tensors = self._all.file(part.file)
        found = tensors[part.place] if part.place < len(tensors) else None
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (part.sizes, self.dtype):
            raise ValueError(f"{part.file}.pt has not what the index tells of")
        return found


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"its index has {value!r} where a number stands")
    return value


def _require_tiled(shape: Sequence[int], parts: Sequence[_Part]) -> None:
    """Raise :class:`ValueError` unless ``parts`` are rows of the tensor, all of them, each once.

    What :func:`torch.distributed.fsdp.fully_shard` divides, it divides by rows.
    """
    row = 0
    for part in sorted(parts, key=lambda one: (one.offsets, one.sizes)):
        sides = zip(part.offsets, part.sizes, shape, strict=True)
        (first, rows, _), *others = ((_number(o), _number(s), _number(n)) for o, s, n in sides)
        if not rows:  # more ranks than rows
            continue
        if first != row or any(start or size != side for start, size, side in others):
            raise ValueError("its index tells of parts that are not the whole of a tensor")
        row += rows
    if row != shape[0]:
        raise ValueError("its index tells of parts that are not the whole of a tensor")


def named(run: Path) -> Iterator[Path]:
    """The folders of parts that there are in a run's folder."""
    return (run / "checkpoints").glob(f"*{ENDING}")
