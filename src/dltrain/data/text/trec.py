"""TREC's questions by what they ask for (Li and Roth 2002): 5,452 to learn from, 500 to test on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dltrain.contracts.paths import FilePath
from dltrain.data.text.source import TextSource
from dltrain.data.text.tokenized import Corpus, Texts, fingerprint
from dltrain.files import read_text

FILES = {"train": "train_5500.label", "test": "TREC_10.label"}


class Trec(TextSource):
    """Questions in the official split, of 6 ``coarse`` or 50 ``fine`` classes.

    ``path`` is a folder that has the two files as they are published: a line is ``COARSE:fine`` and
    the question, in Latin-1. Raises ``ValueError`` naming the line that is none.
    """

    def __init__(
        self, path: FilePath, classes: Literal["coarse", "fine"] = "coarse", **common: Any
    ) -> None:
        super().__init__(**common)
        self.path, self.classes = Path(path).expanduser(), classes

    def paths(self) -> list[Path]:
        """The two files."""
        return [self.path / name for name in FILES.values()]

    def key(self) -> dict[str, Any]:
        """The files as they lie there, and which classes."""
        files = [fingerprint(path.absolute()) for path in self.paths()]
        return {"source": "trec", "files": files, "classes": self.classes}

    def corpus(self) -> Corpus:
        parts = {split: self._lines(self.path / name) for split, name in FILES.items()}
        names = sorted({label for part in parts.values() for label, _ in part})
        splits = {
            split: Texts([text for _, text in part], [names.index(label) for label, _ in part])
            for split, part in parts.items()
        }
        return Corpus(str(self.path), names, splits)

    def _lines(self, path: Path) -> list[tuple[str, str]]:
        """The class and the question of each line."""
        try:
            content = read_text(path, encoding="latin-1")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        found = []
        for number, line in enumerate(content.split("\n"), 1):
            label, _, text = line.strip().partition(" ")
            coarse, colon, fine = label.partition(":")
            if not label:
                continue
            if not (coarse and colon and fine and text.strip()):
                raise ValueError(f"{path}, line {number} is no COARSE:fine and a question")
            found.append((coarse if self.classes == "coarse" else label, text))
        return found
