"""IMDB (Maas et al. 2011): 25,000 film reviews to learn from and 25,000 others to test on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain.contracts.paths import FilePath, PathOrName
from dltrain.data.text.hub_text import HubText
from dltrain.data.text.tokenized import Corpus
from dltrain.errors import UserError

CLASS_NAMES = ("negative", "positive")
NAME = "stanfordnlp/imdb"


class Imdb(HubText):
    """Film reviews, negative or positive, in the official split.

    ``path`` is a local copy as ``datasets`` reads it, or a name on the hub; null: the folder
    ``imdb`` in ``copies`` where there is one, else the hub's. The unlabeled reviews are not used.
    """

    class_names = CLASS_NAMES

    def __init__(self, copies: FilePath, path: PathOrName | None = None, **common: Any) -> None:
        beside = Path(copies).expanduser() / "imdb"
        found = path or (str(beside) if beside.is_dir() else NAME)
        super().__init__(path=found, **common)

    def corpus(self) -> Corpus:
        """Raises :class:`UserError` with how to do without the hub."""
        try:
            found = super().corpus()
        except UserError as error:
            raise UserError(
                f"{error}\nGive a folder that has the parquet files of {NAME} as data.path=DIR; "
                "or use data=toy_reviews, which needs no network."
            ) from error
        # A copy may have lost what its classes are called.
        return replace(found, class_names=CLASS_NAMES)
