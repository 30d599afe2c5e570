"""What was renamed, for one minor release (docs/deprecation.md): keys, choices and classes."""

from __future__ import annotations

KEYS = {
    "callbacks.judge": "callbacks.sample_quality",
    "data.standardise": "data.standardize",
    "model.kinds": "model.clusters",
    "model.normalise_embedding": "model.normalize_embedding",
    "task.binarise": "task.binarize",
}
"""Config keys, and all that lies under them: refused with the new name."""
CHOICES = {"callbacks=judge": "callbacks=sample_quality"}
"""Files of a group: refused with the new name."""
CLASSES = {
    f"dltrain.{module}.{old}": f"dltrain.{module}.{new}"
    for module, old, new in (
        ("callbacks.sample_quality", "SampleJudge", "SampleQuality"),
        ("data.hub", "HubPictures", "HubImages"),
        ("data.images.source", "PictureAugment", "ImageAugment"),
    )
}
"""Aliases of a ``_target_``, by which earlier runs and configs of one's own go on working."""


def called_now(typed: str) -> str:
    """``it is called NEW now.`` of a key, or of ``GROUP=CHOICE``; empty where it was never used."""
    for old, new in (KEYS | CHOICES).items():
        if typed == old or typed.startswith(f"{old}."):
            return f"it is called {new}{typed[len(old) :]} now."
    return ""
