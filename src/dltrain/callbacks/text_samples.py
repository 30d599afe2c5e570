"""What a network writes after the same prompt, all through a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dltrain.contracts.data import DataSpec, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.pieces import ids_by_name, text_of
from dltrain.contracts.run import Logged, Probe, View
from dltrain.contracts.task import SamplesText, Task
from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

FILE = "samples.txt"


class TextSamples(Probe):
    """``count`` texts of ``length`` tokens at every evaluation, in ``samples.txt`` and TensorBoard.

    They go on with ``prompt``; each time the same random numbers draw them, by ``seed``.
    ``temperature``, ``top_k`` and ``top_p`` are as in
    :class:`~dltrain.contracts.task.SamplesText`.

    Where the task writes no texts, there is a note.
    """

    def __init__(
        self,
        spec: DataSpec,
        prompt: str = "",
        length: int = 200,
        count: int = 2,
        seed: int = 0,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> None:
        require_at_least(1, length=length, count=count)
        require_at_least(0, seed=seed, temperature=temperature)
        if top_k is not None:
            require_at_least(1, top_k=top_k)
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
        inputs = spec.of("input")
        self._names = inputs[0].names if inputs else ()
        try:
            self._prompt = ids_by_name(self._names, prompt) if self._names else []
        except ValueError as error:
            raise ValueError(f"prompt: {error}") from error
        self.length, self.count, self.seed = length, count, seed
        self._options: dict[str, Any] = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }
        self._written = ""

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Say where there is nothing to show."""
        if not isinstance(task, SamplesText):
            logger.info("callbacks.text_samples shows nothing: this task writes no texts")

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Texts of the weights that are evaluated."""
        if split != "train" or not isinstance(task, SamplesText):
            return Evaluation()
        made = task.sample_text(self.count, self.seed, self.length, self._prompt, **self._options)
        texts = [text_of(self._names, row) for row in made.columns["text"].tolist()]
        self._written += f"==== step {view.progress.step:,}\n"
        self._written += "".join(f"{text}\n----\n" for text in texts)
        view.write(FILE, self._written, sync=False)
        shown = "\n\n---\n\n".join("    " + text.replace("\n", "\n    ") for text in texts)
        view.log(Logged(texts={"samples": shown}))
        return Evaluation()

    def state_dict(self) -> dict[str, Any]:
        """All that was written."""
        return {"written": self._written}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind it."""
        self._written = state["written"]
