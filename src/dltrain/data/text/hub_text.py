"""Texts that ``datasets.load_dataset`` reads, and IMDB's film reviews among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain.contracts.paths import PathOrName
from dltrain.data.hub import load, read_labels, require_column, require_split
from dltrain.data.text.reader import joined
from dltrain.data.text.source import TextSource
from dltrain.data.text.tokenized import Corpus, Texts, fingerprint


class HubText(TextSource):
    """Columns of texts and a column of classes, from the hub by name or from a local path.

    Of several ``text`` columns the cells are joined by blanks. ``config`` is the name of one of
    several versions of a data set. Where there is no ``test_split``, a fraction is set aside;
    ``validation_split`` null: as ``validation`` says.
    """

    def __init__(
        self,
        path: PathOrName,
        text: str | Sequence[str] = "text",
        label: str = "label",
        config: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        test_split: str = "test",
        **common: Any,
    ) -> None:
        self.path, self.label, self.config = path, label, config
        self.columns = [text] if isinstance(text, str) else list(text)
        if not self.columns:
            raise ValueError("text names no column")
        self._names = {"train": train_split, "test": test_split}
        if validation_split is not None:
            self._names["validation"] = validation_split
        super().__init__(**common)

    def paths(self) -> list[Path]:
        """A local copy, where ``path`` is one."""
        return [Path(self.path).expanduser()]

    def key(self) -> dict[str, Any]:
        """A local copy's files, or the name on the hub: the data set itself is not opened."""
        local = Path(self.path).expanduser().absolute()
        found = fingerprint(local) if local.exists() else self.path
        return {
            "source": "hub",
            "found": found,
            "columns": [self.columns, self.label],
            "config": self.config,
            "splits": self._names,
        }

    def corpus(self) -> Corpus:
        data = load(self.path, self.config)
        names = {s: n for s, n in self._names.items() if s != "test" or n in data}
        for name in names.values():
            require_split(name, data, self.path)
            columns = [*(("text", name) for name in self.columns), ("label", self.label)]
            for key, column in columns:
                place = f"{self.path}, split {name!r},"
                require_column(key, column, data[name].features, place)
        targets, classes = read_labels(
            {split: data[name] for split, name in names.items()}, self.label, self.path
        )
        splits = {
            split: Texts(self._texts(data[name], split), targets[split])
            for split, name in names.items()
        }
        return Corpus(self.path, classes, splits)

    def _texts(self, data: Any, split: str) -> list[str]:
        rows = zip(*(self._column(data, split, name) for name in self.columns), strict=True)
        return [joined(row) for row in rows]

    def _column(self, data: Any, split: str, name: str) -> list[str]:
        # A text that is missing is an empty one.
        texts = ["" if text is None else text for text in data[name]]
        row = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
        if row is not None:
            raise ValueError(
                f"{self.path}, {split}, row {row + 1}: column {name!r} holds "
                f"{str(texts[row])[:40]!r}, which is no text"
            )
        return texts
