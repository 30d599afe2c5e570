"""Sources whose examples are all known: read, split, and batched on the device."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from dltrain.contracts.data import DataSpec, Labeled, Placement, Source, Stream
from dltrain.contracts.paths import FilePath
from dltrain.data.identity import describe
from dltrain.data.streams.division import Division, Stratified, Wanted, hold_out
from dltrain.data.streams.hashes import digest, tell_duplicates
from dltrain.data.streams.in_memory import Batching, Limits, Prepare, Split
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

NAMED = 3
"""Classes that a message names."""


class ArraySource(Source):
    """Splits, limits and batches what :meth:`splits` returns.

    ``root`` is the folder of the data sets' files; a source that needs no files ignores it.
    ``batch_size`` is a number or ``full`` (batch gradient descent). ``validation`` sets aside a
    fraction of the training split (below 1) or a number of its examples, drawn by the run's seed; 0
    sets none aside. ``limit`` keeps only that many examples of the training split, validation
    included, drawn by the same seed. With ``stratify`` each class has its fraction of both, by the
    largest remainders, and never its last example set aside. ``folds`` deals the training split to
    so many parts instead, of which number ``fold`` (from 0) is the validation split: stratified
    in any case. The test split is always whole, and the same for every fold.
    ``balance`` draws the examples of an epoch with replacement, so that each class of the target
    comes about as often.
    """

    def __init__(
        self,
        root: FilePath | None = None,
        batch_size: int | Literal["full"] = 128,
        validation: float = 0.1,
        limit: int | None = None,
        evaluation_batch_size: int = 1000,
        balance: bool = False,
        stratify: bool = False,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        if batch_size != "full" and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if validation < 0:
            raise ValueError(f"validation is not negative, got {validation}")
        if validation >= 1 and isinstance(validation, float):
            raise ValueError(
                f"validation is a fraction below 1 or a whole number, got {validation}"
            )
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        if evaluation_batch_size < 1:
            raise ValueError(
                f"evaluation_batch_size must be at least 1, got {evaluation_batch_size}"
            )
        if folds is not None and folds < 2:
            raise ValueError(f"folds must be at least 2, got {folds}")
        if not 0 <= fold < (folds or 1):
            allowed = f"from 0 to {folds - 1}" if folds else "0 without data.folds"
            raise ValueError(f"fold must be {allowed}, got {fold}")
        self.root = root
        self.batch_size = batch_size
        self.validation = validation
        self.limit = limit
        self.evaluation_batch_size = evaluation_batch_size
        self.balance = balance
        self.stratify, self.folds, self.fold = stratify, folds, fold
        self._splits: Mapping[str, Split] = {}
        self._identity: dict[str, Any] = {}

    @abstractmethod
    def splits(self) -> dict[str, Split]:
        """Read ``train`` and ``test``; and ``validation`` where the data brings its own.

        The setting ``validation`` is then without effect. From here on :meth:`outline` knows all
        but what is learned from the training rows.
        """

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepare:
        """Return what turns gathered columns into the model's input; after :meth:`read`."""

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Learn what is to be done to every split from ``train`` alone, and do it.

        So nothing of the validation or the test split leaks into means, stds and the like.
        """
        return splits

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """All there is to know, given what :meth:`learn` returned."""
        fields = dict(self.outline().fields)
        target = fields.get("target")
        if target is not None and target.kind == "class":
            assert target.size is not None
            counts = splits["train"].columns["target"].bincount(minlength=target.size)
            fields["target"] = replace(target, counts=tuple(counts.tolist()))
        return DataSpec(fields)

    def training_limits(self) -> Limits:
        """How much is in a batch to train on."""
        return Limits(None if self.batch_size == "full" else self.batch_size)

    def evaluation_limits(self) -> Limits:
        """How much is in a batch to evaluate."""
        return Limits(self.evaluation_batch_size)

    def read(self, seed: int) -> DataSpec:
        found = self.splits()
        if self.folds is not None and "validation" in found:
            raise UserError("data.folds: this data brings a validation split of its own.")
        train = found["train"]
        validation = 0.0 if "validation" in found else self.validation
        if self.folds is not None:
            logger.info(
                "fold %d of %d is the validation split (all of them: dltrain -m … "
                "'data.fold=range(%d)').",
                *(self.fold, self.folds, self.folds),
            )
        wanted = Wanted(validation, self.limit, self.folds, self.fold)
        rows, held_out = hold_out(len(train), self.division(train), wanted, seed)
        parts = {"train": train if rows is None else train.only(rows)}
        if held_out is not None:
            parts["validation"] = train.only(held_out)
            self._tell_absent(parts)
        parts |= {name: split for name, split in found.items() if name != "train"}
        hashes = {name: split.hashes() for name, split in parts.items()}
        tell_duplicates(hashes)
        self._identity = {
            name: {"examples": len(parts[name]), "digest": digest(columns)}
            for name, columns in hashes.items()
        }
        self._splits = self.learn(parts)
        spec = self.spec(self._splits)
        if self.balance and [field.kind for field in spec.of("target")] != ["class"]:
            raise ValueError("balance=true needs classes, and this data's target is none")
        return spec

    def division(self, train: Split) -> Division:
        """How the training rows are divided: by classes, where that is asked for."""
        classes = [field.kind for field in self.outline().of("target")] == ["class"]
        if classes and (self.stratify or self.folds is not None):
            return Stratified(train.columns["target"])
        return Division()

    def _tell_absent(self, parts: Mapping[str, Split]) -> None:
        """Log or refuse classes that are in but one of the splits that were one."""
        target = self.outline().fields.get("target")
        if target is None or target.kind != "class":
            return
        train, validation = (
            set(parts[name].columns["target"].unique().tolist()) for name in ("train", "validation")
        )
        lost, unseen = (
            [target.names[one] if target.names else str(one) for one in sorted(classes)]
            for classes in (validation - train, train - validation)
        )
        if lost and self.folds is not None:
            raise UserError(
                f"data.folds: fold {self.fold} has every training example of {_some(lost)}; a "
                "class needs at least 2."
            )
        if lost:
            logger.warning(
                "every training example of %s is set aside for validation; data.stratify=true "
                "keeps at least one.",
                _some(lost),
            )
        if unseen and self.stratify:
            logger.info("the validation split has no example of %s: they are few.", _some(unseen))

    def paths(self) -> Sequence[Path]:
        """The files and folders of one's own that are read; none of what is fetched or made."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """How many examples each split has, a digest of them, and the files they are from."""
        return {"splits": self._identity, "files": describe(self.paths())}

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """By what :meth:`raw` makes of what the splits hold."""
        if not self.outline().of("target"):
            raise UserError("data: its examples have no target to be evaluated by.")
        as_it_is = Batching(
            Limits(self.evaluation_batch_size), torch.device("cpu"), lambda batch, draw: batch
        )
        for name in self.names(split):
            for batch in self._splits[name].stream(as_it_is).plain():
                yield Labeled(self.raw(batch["input"]), batch["target"])

    def names(self, split: str | None) -> Sequence[str]:
        """The splits that are meant. Raises :class:`UserError` where there is no such one."""
        if split is not None and split not in self._splits:
            raise UserError(f"this data has no {split} split, but {', '.join(self._splits)}.")
        return list(self._splits) if split is None else [split]

    def raw(self, inputs: torch.Tensor) -> Sequence[Any]:
        """Examples as a reader takes them, of a split's column ``input`` (batch, …)."""
        return list(inputs.numpy())

    def open(self, placement: Placement) -> dict[str, Stream]:
        """Batch the splits, and move them to the device."""
        assert self._splits, "read() comes first"
        prepare = self.prepare(placement.device)
        evaluated = Batching(self.evaluation_limits(), placement.device, prepare)
        classes = self._splits["train"].columns["target"] if self.balance else None
        training = Batching(
            self.training_limits(), placement.device, prepare, placement.seed, True, classes
        )
        return {
            name: split.stream(training if name == "train" else evaluated)
            for name, split in self._splits.items()
        }


def _some(names: Sequence[str]) -> str:
    """The first of ``names``, and how many there are beside."""
    rest = len(names) - NAMED
    shown = ", ".join(repr(name) for name in names[:NAMED])
    return f"{shown} and {rest} more classes" if rest > 0 else shown
