"""Which page of the documentation explains what: of an error's kind, or of the place it is from.

Nothing here imports torch, and a page is looked up only once there is an error to tell.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata

FIRST = "overview.md"
"""Where one begins to read."""

PAGES = {
    # Kinds of errors.
    "dltrain.errors.Diverged": "course/30-tensorboard.md",
    "dltrain.errors.OutOfMemory": "performance.md#less-memory-on-one-device",
    "dltrain.engine.compile.CannotCompile": "performance.md#compiled-steps",
    "dltrain.runs.checkpoint.Damaged": "reliability.md#what-a-damaged-run-folder-does",
    # Commands.
    "dltrain.commands.evaluate": "using.md#evaluate",
    "dltrain.commands.export": "export.md",
    "dltrain.commands.lr_find": "tuning.md#dltrain-lr-find",
    "dltrain.commands.new": "extending.md",
    "dltrain.commands.predict": "using.md#predict",
    "dltrain.commands.serve": "using.md#serve",
    "dltrain.commands.tune": "tuning.md#dltrain-tune",
    # Parts, by the package that they are in.
    "dltrain.data.audio": "speech.md#the-files",
    "dltrain.data.detection": "vision.md#detection",
    "dltrain.data.environments": "acting.md",
    "dltrain.data.images": "own_images.md",
    "dltrain.data.kept": "data.md#a-run-keeps-to-its-data",
    "dltrain.data.masks": "vision.md#the-files",
    "dltrain.data.parallel": "translation.md",
    "dltrain.data.ratings": "recommending.md#the-files",
    "dltrain.data.series": "forecasting.md",
    "dltrain.data.shards": "data.md#data-larger-than-memory",
    "dltrain.data.streams.division": "data.md#which-example-is-in-which-split",
    "dltrain.data.tables": "own_table.md",
    "dltrain.data.text": "own_text.md",
    "dltrain.data.text.text_file": "language_models.md",
    "dltrain.engine.parallel": "scaling.md",
    "dltrain.federated": "deep_belief.md",
    "dltrain.inference.onnx_format": "export.md",
    "dltrain.prolong": "tuning.md#dltrain-resume-run-trainerepochs20",
    "dltrain.runs.init_from": "transfer.md#from-where",
    "dltrain.tuning": "tuning.md",
}
"""Pages of docs/, by the class of an error, or by the function or package it is raised in."""


def page_of(error: BaseException) -> str | None:
    """The page that explains ``error``; None where none does.

    That of its class, else of the outermost place that has one: in ``dltrain predict`` it is the
    command's, whatever reads the images.
    """
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    return next(filter(None, map(PAGES.get, names)), None) or next(
        filter(None, map(page_of_place, _places(error))), None
    )


def page_of_place(name: str) -> str | None:
    """The page of a module, or of the nearest package around it that has one."""
    while name:
        if name in PAGES:
            return PAGES[name]
        name = name.rpartition(".")[0]
    return None


def address(page: str) -> str:
    """Where ``page`` is read: on the site, where the package names one, else in the repository.

    The site is that of ``Documentation`` in pyproject.toml's ``[project.urls]``.
    """
    try:
        urls = metadata("dltrain").get_all("Project-URL") or []
    except PackageNotFoundError:  # imported from a folder: nothing is known of it
        urls = []
    for label, _, site in (url.partition(", ") for url in urls):
        if label == "Documentation":
            return f"{site.rstrip('/')}/{page.replace('.md', '.html')}"
    return f"docs/{page}"


def _places(error: BaseException) -> Iterator[str]:
    """Functions, as module.function, from the outermost to where ``error`` was raised.

    Then those of what it was raised from: a fault in a config that a data set has found.
    """
    raised: BaseException | None = error
    while raised is not None:
        for frame, _ in traceback.walk_tb(raised.__traceback__):
            yield f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}"
        raised = raised.__cause__
