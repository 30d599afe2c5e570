"""The answers to some examples, drawn: images or texts with their classes; attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch

from dltrain.contracts.task import Attends
from dltrain.errors import UserError
from dltrain.inference.predictor import Part, Predictor
from dltrain.inference.writers import FORECAST
from dltrain.reports.attention import Map, draw_attention_maps
from dltrain.reports.classes import draw_predictions
from dltrain.reports.forecasts import draw_forecasts
from dltrain.reports.texts import draw_texts
from dltrain.runs.evaluation_classifier import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WINDOWS = 4
"""Forecasts that are drawn side by side."""


def draw(predictor: Predictor, parts: Sequence[Part], most: int) -> Figure:
    """The first ``most`` examples of ``parts``.

    Raises :class:`UserError` for what cannot be drawn.
    """
    if isinstance(predictor.task, Attends):
        maps = list(islice(_maps(predictor.task, parts), most))
        if not any(len(written) for _, written, _ in maps):
            raise UserError("--figure: every translation is empty: there is no attention to draw.")
        return draw_attention_maps(maps)
    if FORECAST in parts[0].answers.columns:
        return _forecasts(predictor, parts, min(most, WINDOWS))
    columns = parts[0].answers.tensors
    scores = next((name for name in ("probability", "score") if name in columns), None)
    if scores is None or "class" not in columns:
        hint = " --out FOLDER paints its answers into the images." if predictor.paints else ""
        raise UserError(f"--figure: {predictor.path} predicts no classes.{hint}")
    values = torch.cat([part.answers.tensors[scores] for part in parts])[:most]
    if scores == "score":
        values = values.softmax(1)
    names = parts[0].answers.fields["class"].names
    kinds = [field.kind for field in predictor.spec.of("input")]
    if kinds == ["image"]:
        scale = Scale.of(predictor.spec)
        pixels = torch.cat([scale.restored(part.batch["input"]) for part in parts])[:most]
        images = pixels.permute(0, 2, 3, 1).numpy()
        return draw_predictions(images, values.numpy(), values.argmax(1).tolist(), names)
    if kinds == ["tokens"]:
        texts = [_text(one) for part in parts for one in part.examples][:most]
        return draw_texts(texts, values.numpy(), names)
    raise UserError("--figure: images and texts can be drawn, and these are neither.")


def _forecasts(predictor: Predictor, parts: Sequence[Part], most: int) -> Figure:
    """Histories, and what follows, of the first ``most`` series."""
    source, target = predictor.spec.input, predictor.spec.target
    fields = parts[0].answers.fields
    (name,) = (name for name, field in fields.items() if len(field.shape) == 2)
    ahead = torch.cat([part.answers.tensors[name] for part in parts])[:most]
    scaled = torch.cat([part.batch["input"] for part in parts])[:most].double()
    history = scaled * torch.tensor(source.std) + torch.tensor(source.mean)
    history = history[..., : ahead.shape[2]]
    return draw_forecasts(history.numpy(), None, ahead.numpy(), target.names)


def _maps(task: Attends, parts: Sequence[Part]) -> Iterator[Map]:
    for part in parts:
        for one in task.attention(part.batch, part.answers.tensors):
            yield one.read, one.written, one.weights.numpy()


def _text(example: object) -> str:
    if isinstance(example, dict):
        return " ".join(str(cell) for cell in example.values())
    return str(example)
