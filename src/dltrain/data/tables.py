"""Tables: feature vectors, standardised by what the training split alone knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.data.arrays import ArraySource
from dltrain.data.loaders import Prepare
from dltrain.data.vectors import VectorAugment, prepare_vectors
from dltrain.errors import UserError
from dltrain.types import Batch

SPLIT_SEED = 0


class VectorSource(ArraySource):
    """Vectors of named features; ``augment`` changes those of the training split."""

    feature_names: Sequence[str]
    class_names: Sequence[str] = ()
    """Empty where the target is one number."""

    def __init__(self, augment: VectorAugment | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.augment = augment or VectorAugment()

    @property
    def facts(self) -> dict[str, Any]:
        """One input a feature; one output a class, or one for a number."""
        facts = {
            "input_shape": (len(self.feature_names),),
            "feature_names": list(self.feature_names),
            "outputs": len(self.class_names) or 1,
        }
        return facts | ({"class_names": list(self.class_names)} if self.class_names else {})

    def prepare(self, device: torch.device) -> Prepare:
        """Noise for the training vectors, when asked."""
        return prepare_vectors(self.augment)


class TableSource(VectorSource):
    """Vectors whose features have units; ``standardise`` gives each mean 0 and deviation 1.

    A missing value is NaN on the way here, and becomes the mean of the training rows.
    """

    unscaled: Sequence[int] = ()
    """Features that are no measure, such as the 0 and 1 of a category; never standardised."""

    def __init__(self, standardise: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.standardise = standardise

    def learn(self, train: Batch, rows: Tensor | None) -> Callable[[Batch], Batch]:
        """Mean and deviation of each feature over the training rows.

        Raises :class:`UserError` for a feature that has no value in any of them.
        """
        inputs = train["input"] if rows is None else train["input"][rows]
        mean = inputs.nanmean(0)
        empty = [self.feature_names[i] for i in mean.isnan().nonzero()[:, 0]]
        if empty:
            raise UserError(f"data: {empty[0]!r} has no value in any of the training rows.")
        offset, deviation = torch.zeros_like(mean), torch.ones_like(mean)
        if self.standardise:
            scaled = torch.tensor([i not in self.unscaled for i in range(len(mean))])
            # A feature that never changes says nothing: it becomes 0 instead of 0/0.
            spread = (inputs - mean).nan_to_num(0).square().mean(0).sqrt()
            deviation = torch.where(scaled & (spread > 0), spread, deviation)
            offset = torch.where(scaled, mean, offset)

        def learned(columns: Batch) -> Batch:
            filled = columns["input"].where(~columns["input"].isnan(), mean)
            return columns | {"input": ((filled - offset) / deviation).float()}

        return learned


class BundledTable(TableSource):
    """A table that scikit-learn bundles, with a fixed test split: the same rows for every seed.

    The test split is stratified where the target is a class.
    """

    test_share = 0.2

    @abstractmethod
    def load(self) -> Any:
        """What scikit-learn returns: ``data`` (n, features) and ``target`` (n,)."""

    def read(self) -> tuple[Batch, Batch]:
        """Read the bundled file, and split it."""
        bundled = self.load()
        target = torch.from_numpy(bundled.target)
        columns = {
            "input": torch.from_numpy(bundled.data),
            "target": target.long() if self.class_names else target.float()[:, None],
        }
        return split(columns, self.test_share)


class Iris(BundledTable):
    """150 iris flowers of three species (Fisher 1936)."""

    feature_names = ("sepal length", "sepal width", "petal length", "petal width")
    class_names = ("setosa", "versicolor", "virginica")

    def load(self) -> Any:
        """Lengths in cm."""
        from sklearn.datasets import load_iris

        return load_iris()


class BreastCancer(BundledTable):
    """569 tumours, told malignant from benign by their cells' nuclei (Street et al. 1993, UCI)."""

    feature_names = tuple(
        f"{statistic} {measure}"
        for statistic in ("mean", "error of", "worst")
        for measure in (
            "radius",
            "texture",
            "perimeter",
            "area",
            "smoothness",
            "compactness",
            "concavity",
            "concave points",
            "symmetry",
            "fractal dimension",
        )
    )
    class_names = ("malignant", "benign")

    def load(self) -> Any:
        """Mean, standard error and worst of ten measures of a tumour's nuclei."""
        from sklearn.datasets import load_breast_cancer

        return load_breast_cancer()


class Diabetes(BundledTable):
    """442 patients and how far their diabetes went in a year (Efron et al. 2004); a number."""

    feature_names = (
        "age",
        "sex",
        "body mass index",
        "blood pressure",
        "total cholesterol",
        "LDL",
        "HDL",
        "cholesterol ratio",
        "triglycerides",
        "glucose",
    )

    def load(self) -> Any:
        """Unscaled: standardising is the training split's business."""
        from sklearn.datasets import load_diabetes

        return load_diabetes(scaled=False)


def split(columns: Batch, share: float, seed: int = SPLIT_SEED) -> tuple[Batch, Batch]:
    """Draw a test split of about ``share`` of the rows; return the training and the test columns.

    Where ``columns["target"]`` holds classes (integers), each gives its share, rounded, but never
    its last training example.
    """
    target = columns["target"]
    groups = torch.zeros(len(target)) if target.is_floating_point() else target
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(target), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        count = min(round(share * len(members)), len(members) - 1)
        test[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (
        {name: column[~test] for name, column in columns.items()},
        {name: column[test] for name, column in columns.items()},
    )
