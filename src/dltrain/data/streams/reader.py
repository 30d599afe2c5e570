"""New examples that are arrays already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Cast, Preprocessing
from dltrain.files import require_file


def several(examples: Sequence[Any]) -> Sequence[Any]:
    """``examples``, of which there are some. Raises ValueError for none, and for a lone text."""
    if isinstance(examples, (str, bytes)):
        raise ValueError(f"examples come as a list; got {examples!r} alone")
    if not len(examples):
        raise ValueError("there is no example to read")
    return examples


def require_scale(mean: Sequence[float], std: Sequence[float], *sizes: int) -> None:
    """Raise ValueError unless there are a mean and a std > 0, as many as one of ``sizes``."""
    for key, values in (("mean", mean), ("std", std)):
        if len(values) not in sizes:
            wanted = " or ".join(map(str, dict.fromkeys(sizes)))
            raise ValueError(f"{key} must be a list of {wanted}, not of {len(values)}")
    if not all(value > 0 for value in std):
        raise ValueError(f"std must be > 0, got {list(std)}")


class ArrayReader(Reader):
    """Reads arrays of numbers of one ``shape``, such as a sequence (time, features).

    An example is whatever numpy makes an array of. A number alone is one of shape (1,).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    example = "array"

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A path is a .npy file, whose first axis counts examples."""
        for one in inputs:
            if isinstance(one, (str, Path)):
                yield from _array_of_file(Path(one).expanduser())
            else:
                yield one

    def read(self, examples: Sequence[Any]) -> Batch:
        """The examples, float32 (batch, *shape)."""
        return {"input": torch.stack([self._one(n, e) for n, e in enumerate(several(examples))])}

    def node(self, folder: Path) -> dict[str, Any]:
        return {"_target_": f"{__name__}.ArrayReader", "shape": list(self.shape)}

    def preprocessing(self) -> Preprocessing:
        """``input``, float32 (batch, *shape)."""
        outside = {"kind": "array", "shape": list(self.shape)}
        return Preprocessing("input", Cast(torch.float32, torch.float32), outside)

    def _one(self, position: int, example: Any) -> torch.Tensor:
        try:
            array = np.atleast_1d(np.asarray(example, np.float32))
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(f"example {position} is no array of numbers: {error}") from error
        if array.shape != self.shape:
            raise ValueError(f"example {position} is of shape {array.shape}, not {self.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"example {position} has a number that is not finite")
        return torch.from_numpy(array)


def _array_of_file(path: Path) -> np.ndarray[Any, Any]:
    """Those of a .npy file, which may be a stranger's: nothing is unpickled, nothing unpacked."""
    require_file(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers that is whole") from error
    if not isinstance(found, np.ndarray) or not found.ndim:
        raise ValueError(f"{path} is no .npy file of examples")
    return found
