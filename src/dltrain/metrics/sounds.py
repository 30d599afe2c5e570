"""Some sounds of a split: to look at, to hear, and with their predictions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Evaluation, Outputs, Sound
from dltrain.contracts.pieces import BLANK
from dltrain.metrics.accumulators import AccumulatorMetric, TopK, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOUNDS = 6
WIDE = 60
"""Letters of a title."""
LONGEST = 600
"""Frames of a sound that are drawn."""
Told = Iterator[tuple[str, bool, list[tuple[int, str]]]]
"""Of each example its title, whether it is wrong, and letters at frames."""


class Drawn(NamedTuple):
    """A sound with its title, and letters at frames."""

    frames: Tensor
    title: str
    wrong: bool
    marks: list[tuple[float, str]]


class SoundExamples(AccumulatorMetric):
    """The same sounds at every evaluation, from all over the split.

    Of the batch it reads ``input`` (batch, frames, features), ``sound`` (batch, time) where there
    is one, and their lengths; a subclass says what it reads besides.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._frame_rate = spec.input.rate or 1.0
        sound = spec.fields.get("sound")
        self._rate = None if sound is None or sound.rate is None else int(sound.rate)
        self._some = TopK(SOUNDS)
        super().__init__(some=self._some)

    @abstractmethod
    def told(self, outputs: Outputs, batch: Batch) -> list[Tensor]:
        """What else is kept of each example, (batch, …)."""

    @abstractmethod
    def described(self, told: Sequence[Tensor]) -> Told:
        """What is written over each example, of what :meth:`told` kept of it."""

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look through the batch."""
        frames = batch["input"]
        silence = frames.new_zeros(len(frames), 1, dtype=torch.int16)
        none = torch.zeros_like(batch["input_length"])
        sounds = batch.get("sound", silence), batch.get("sound_length", none)
        scores = spread(rows).to(frames.device)
        columns = frames, batch["input_length"], *sounds, *self.told(outputs, batch)
        self._some.add(scores, *columns)

    def compute(self) -> Evaluation:
        """A figure of spectrograms, and the sounds."""
        frames, lengths, sounds, sound_lengths, *told = self._some.found()
        drawn, heard = [], {}
        for row, (title, wrong, marks) in enumerate(self.described(told)):
            own = frames[row, : int(lengths[row])][:LONGEST].float()
            near = [(float(place), text) for place, text in marks if place < len(own)]
            drawn.append(Drawn(own, title, wrong, near))
            count = int(sound_lengths[row])
            if self._rate is not None and count:
                heard[f"{row}"] = Sound(sounds[row, :count], self._rate)
        draw = partial(_draw, drawn, self._frame_rate)
        return Evaluation(figures={"spectrograms": draw}, sounds=heard)


class ClassifiedSounds(SoundExamples):
    """With the class that was predicted, and the true one."""

    def __init__(self, spec: DataSpec, class_names: Sequence[str]) -> None:
        super().__init__(spec)
        self._names = class_names

    def told(self, outputs: Outputs, batch: Batch) -> list[Tensor]:
        return [outputs["class"], outputs["confidence"], batch["target"]]

    def described(self, told: Sequence[Tensor]) -> Told:
        for guess, confidence, target in zip(*(one.tolist() for one in told), strict=True):
            wrong = guess != target
            true = f", true: {self._names[target]}" if wrong else ""
            yield f"{self._names[guess]} ({confidence:.0%}){true}", wrong, []


class WrittenSounds(SoundExamples):
    """With the transcript, and each letter or word where the most probable path writes it."""

    def __init__(self, spec: DataSpec, letters: Sequence[str], space: str = BLANK) -> None:
        super().__init__(spec)
        self._letters = [one.replace(space, " ") for one in letters]

    def told(self, outputs: Outputs, batch: Batch) -> list[Tensor]:
        path = outputs["logits"].argmax(2)
        target, lengths = batch["target"], batch["target_length"]
        return [path, outputs["logits_length"], batch["input_length"], target, lengths]

    def described(self, told: Sequence[Tensor]) -> Told:
        for path, steps, frames, target, count in zip(*(o.tolist() for o in told), strict=True):
            marks, before = [], 0
            for step, letter in enumerate(path[:steps]):
                if letter and letter != before:
                    marks.append((step * frames // steps, self._letters[letter]))
                before = letter
            said = "".join(text for _, text in marks).strip()
            true = "".join(self._letters[one] for one in target[:count]).strip()
            wrong = said != true
            shown = [(place, text.strip() or "␣") for place, text in marks]
            yield f"{said}{f', true: {true}' if wrong else ''}", wrong, shown


def _draw(sounds: Sequence[Drawn], rate: float) -> Figure:
    from dltrain.reports.canvas import shortened
    from dltrain.reports.sounds import Spectrogram, draw_spectrograms

    return draw_spectrograms(
        [
            Spectrogram(s.frames.numpy(), rate, shortened(s.title, WIDE), s.wrong, s.marks)
            for s in sounds
        ]
    )
