"""A trained run that answers: new examples in, names and numbers out."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Field, KnowsUsers, Reader
from dltrain.contracts.pieces import UNKNOWN
from dltrain.contracts.task import (
    FindsByScore,
    Painted,
    Paints,
    PaintsAs,
    Predictions,
    Predicts,
    Recommends,
    Task,
)
from dltrain.data.images.style import read_image
from dltrain.errors import UserError
from dltrain.inference.answers import Answers
from dltrain.runs.environment import choose_device
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder, known_status
from dltrain.runs.load import load_run, reader_of_run, spec_of_run

if TYPE_CHECKING:
    from dltrain.inference.evaluate import Evaluated

logger = logging.getLogger(__name__)

FEWEST, FIRST_BATCH, MOST = 16, 256, 4096
"""Examples that are answered at once."""
NUMBERS = 1 << 22
"""Numbers of a batch, by which it has more examples or fewer: the memory that it takes."""
FIRST = re.compile(r"^example 0\b")
"""How a reader calls an example that it was given alone."""


class Part(NamedTuple):
    """Some examples, what the reader made of them, and the answers to them."""

    examples: Sequence[Any]
    batch: Batch
    answers: Answers


class Predictor:
    """A trained run, without its data. ``dltrain.load(RUN)`` makes one.

    ``path`` is the run's folder, ``spec`` what its data was, ``model`` the trained network,
    ``task`` what it was trained for, in eval mode. ``weights`` are ``last`` or ``best``; None takes
    those that the run was tested with. ``trusted``: the config is of who calls, so that its classes
    may come from anywhere. Raises :class:`UserError` where there is no such run or no such weights.
    """

    def __init__(
        self,
        folder: RunFolder,
        weights: str | None = None,
        device: str = "cpu",
        trusted: bool = False,
    ) -> None:
        loaded = load_run(folder, weights, trusted)
        self._trusted = trusted
        self.path: Path = folder.path
        self.spec: DataSpec = spec_of_run(folder)
        self.device = choose_device(device)
        self.task: Task = loaded.task.to(self.device)
        self.model: nn.Module = loaded.model
        self.weights = loaded.weights

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}, weights={self.weights!r})"

    @cached_property
    def reader(self) -> Reader:
        """What reads new examples as the run's were read.

        Raises :class:`UserError` where the run has none.
        """
        found = reader_of_run(self.path, trusted=self._trusted)
        return found.at_own_size() if self.task.any_size else found

    @property
    def summary(self) -> dict[str, Any]:
        """How the run went: ``status``, ``validation`` and ``test``, ``seconds`` and more."""
        content = RunFolder(self.path).summary()
        return content | {"status": known_status(self.path, content.get("status"))}

    def predict(self, examples: Any, top: int | None = 3) -> Answers:
        """Answers to ``examples``, a row each.

        They are what the command takes, and what the run's reader reads: images as paths of files
        or folders, patterns, arrays or PIL images; texts; rows of a table as mappings, or a table
        as a path or a data frame; one of them or a list. For texts a ``Path`` is a file of them,
        and a ``str`` is one. A mapping of tensors is a batch that is made already. ``top`` is as in
        :class:`~dltrain.inference.answers.Answers`.

        Raises :class:`ValueError` naming the first example that cannot be read, and
        :class:`UserError` where the run predicts nothing.
        """
        if isinstance(examples, Mapping) and all(map(torch.is_tensor, examples.values())):
            return Answers(self._ask(dict(examples)), top)
        parts = [part.answers for part in self.predict_in_parts(examples, top)]
        if not parts:
            raise ValueError("there is no example to read")
        return Answers.joined(parts)

    def predict_in_parts(
        self, examples: Any, top: int | None = 3, skip_unreadable: bool = False
    ) -> Iterator[Part]:
        """The same part by part, in constant memory, for any number of examples.

        ``skip_unreadable`` leaves out, and logs, what cannot be read, instead of raising.
        """
        self.require_predicts()
        found = self.reader.expand(examples if _several(examples) else [examples])
        most = self.reader.at_once or MOST
        before, count = 0, min(FIRST_BATCH, most)
        while chunk := list(islice(found, count)):
            for part, batch in self._read(chunk, before, skip_unreadable):
                try:
                    answers = Answers(self._ask(batch), top)
                except UserError:  # of the run, not of an example
                    raise
                except ValueError as error:
                    if len(chunk) > 1:
                        raise
                    name = f", {part[0]}" if isinstance(part[0], Path) else ""
                    said = f"{self.reader.example} {before + 1}{name}: {error}"
                    if not skip_unreadable:
                        raise ValueError(said) from error
                    logger.warning("left out: %s", said)
                    continue
                yield Part(part, batch, answers)
                numbers = sum(column.numel() for column in batch.values()) / len(part)
                count = min(most, int(max(FEWEST, min(MOST, NUMBERS / max(1, numbers)))))
            before += len(chunk)

    @property
    def paints(self) -> bool:
        """Whether answers can be seen in the images that were asked about."""
        return isinstance(self.task, Paints)

    def paint(self, part: Part) -> list[dict[str, Painted]]:
        """The images of a part with the answers in them. Raises :class:`UserError` for others."""
        if not isinstance(self.task, Paints):
            raise UserError(f"{self.path}: its answers cannot be painted into images.")
        return self.task.paint(part.batch, part.answers.tensors)

    def evaluate(self, split: str | None = None, data: str = "") -> Evaluated:
        """The run's metrics, tables and figures, as ``dltrain evaluate`` has them.

        ``split`` is ``test``, ``validation``, ``train`` or ``all``; None: test, or validation where
        there is none. ``data`` are overrides that name another data set, as they are typed:
        ``"data=csv data.path=new.csv"``. The metrics are ``evaluate().evaluation.scalars``.

        Raises :class:`UserError` where that is impossible.
        """
        from dltrain.inference.evaluate import data_of, evaluate_run

        folder = RunFolder(self.path)
        other = data_of(folder, shlex.split(data))
        return evaluate_run(folder, split, other, self.weights, str(self.device))

    def recommend(self, user: str | int, count: int = 10) -> dict[str, list[Any]]:
        """The best ``count`` items for a user that it does not have yet, as columns, best first.

        ``item``, ``title`` where a file has named some, and ``rating`` or ``score``. A user whom
        training did not have is told of. Raises :class:`UserError` where the run recommends
        nothing, and ValueError for a ``count`` below 1.
        """
        reader = self.reader
        if not isinstance(self.task, Recommends) or not isinstance(reader, KnowsUsers):
            name = type(self.task).__name__
            raise UserError(f"{self.path} recommends nothing: its task is {name}.")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        number = reader.user(str(user))
        answers = Answers(self.task.recommend(number, count, reader.known(number)))
        titles = list(reader.titled(answers.tensors["item"].tolist()))
        columns = {name: answers.column(name) for name in answers.columns}
        items = columns.pop("item")
        return {"item": items, **({"title": titles} if titles else {}), **columns}

    def require_predicts(self) -> None:
        """Raise :class:`UserError` where the task answers no questions about examples."""
        if not isinstance(self.task, Predicts):
            raise UserError(
                f"{self.path} predicts nothing: its task is {type(self.task).__name__}."
            )

    def require_score(self, least: float) -> None:
        """Of what is found in examples, answer with what has at least that score.

        Raises :class:`UserError` where the task finds no objects, or looks at no such score.
        """
        if not isinstance(self.task, FindsByScore):
            raise UserError(f"--threshold: {self.path} finds no objects: it has no such score.")
        try:
            self.task.require_score(least)
        except ValueError as error:
            raise UserError(f"--threshold: {error}.") from error

    def paint_as(self, style: str | Path, size: int | None = None) -> None:
        """Answer with images in the style of an image file from now on.

        Its longer side has ``size`` pixels (None: as many as the images that were trained with):
        how large its strokes are. Raises :class:`UserError` where it cannot be read, and where the
        run knows but one style, or none.
        """
        if not isinstance(self.task, PaintsAs):
            raise UserError(f"--style: {self.path} does not paint in any style.")
        sides = [side or 0 for side in self.spec.input.shape[1:]]
        try:
            self.task.paint_as(read_image(style, size or max(sides)))
        except ValueError as error:
            raise UserError(f"--style: {error}.") from error

    def _read(self, chunk: list[Any], before: int, skip: bool) -> Iterator[tuple[list[Any], Batch]]:
        """The examples as a batch; where some cannot be read, those before them, or the others."""
        try:
            yield chunk, self.reader.read(chunk)
            return
        except ValueError as error:
            whole = error
        good: list[Any] = []
        for number, one in enumerate(chunk, before + 1):
            try:
                self.reader.read([one])
            except ValueError as error:
                said = FIRST.sub(f"{self.reader.example} {number}", str(error))
                if not skip:
                    if good:
                        yield good, self.reader.read(good)
                    raise ValueError(said) from error
                logger.warning("left out: %s", said)
            else:
                good.append(one)
        if len(good) == len(chunk):  # together they are wrong, though each alone is not
            raise whole
        if good:
            yield good, self.reader.read(good)

    def _ask(self, batch: Batch) -> Predictions:
        self.require_predicts()
        assert isinstance(self.task, Predicts)
        for name, field in self.spec.fields.items():
            if field.role != "input":
                continue
            if name not in batch:
                raise UserError(f"{self.path}: the network needs {name!r}, which is not given.")
            shape = tuple(batch[name].shape[1:])
            known = (*field.shape[:1], None, None) if self.task.any_size else field.shape
            if field.kind == "tokens":  # of any length, whatever the window that was trained on
                known = (None,)
            if len(shape) != len(known) or any(
                wanted not in (None, side) for side, wanted in zip(shape, known, strict=True)
            ):
                raise UserError(
                    f"{self.path}: {name!r} is of shape {shape} an example, but the network was "
                    f"trained with {tuple(field.shape)}."
                )
            if field.kind == "tokens":
                _tell_unknown(batch[name], field)
        return self.task.predict({name: column.to(self.device) for name, column in batch.items()})


def load(
    run: str | Path = "latest",
    weights: str | None = None,
    output_dir: str | Path = "outputs",
    device: str = "cpu",
) -> Predictor:
    """Return a trained run to be used: ``load("latest").predict(examples)``.

    ``run`` is a run's folder, a part of its path that no other run has, or ``latest``. ``weights``
    is ``last`` or ``best``; None takes those that the run was tested with. The data is not needed,
    and nothing global is left changed. The config may name only models, tasks and so on from
    dltrain, from what torch and torchvision have of them, and from the packages listed in the
    environment variable ``DLTRAIN_PACKAGES``.

    Raises :class:`UserError` where there is no such run, or no such weights.
    """
    return Predictor(find_run(str(run), Path(output_dir)), weights, device)


def _tell_unknown(ids: Tensor, field: Field) -> None:
    """Warn of texts (batch, time) of which all tokens are unknown: an answer is of none of them."""
    if UNKNOWN not in field.names:
        return
    known = (ids != field.names.index(UNKNOWN)) & (ids != field.fill)
    count = int((~known.any(1)).sum())
    if count:
        logger.warning(
            "%s of %s texts have no token that the run knows: the answer is the same as for any "
            "other such text.",
            *(f"{count:,}", f"{len(ids):,}"),
        )


def _several(examples: Any) -> bool:
    """Whether they are many examples, not one."""
    if isinstance(examples, (str, bytes, Path, Mapping)) or hasattr(examples, "columns"):
        return False
    return isinstance(examples, Iterable) and not hasattr(examples, "readline")
