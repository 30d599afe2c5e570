"""Tables: feature vectors, standardized by what the training split alone knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.data.streams.division import hold_out_test
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.streams.source import ArraySource
from dltrain.data.tables.augment import VectorAugment, prepare_vectors
from dltrain.data.tables.encoding import Scaling, learn_scaling
from dltrain.data.tables.reader import TableReader
from dltrain.errors import UserError


class VectorSource(ArraySource):
    """Vectors of named features; ``augment`` changes those of the training split."""

    feature_names: Sequence[str]
    class_names: Sequence[str] = ()
    """Empty where the target is one number."""

    def __init__(self, augment: VectorAugment | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.augment = augment or VectorAugment()

    def outline(self) -> DataSpec:
        """One input a feature; a class, or one number to predict."""
        names = tuple(self.feature_names)
        source = Field((len(names),), "number", "input", names=names)
        return DataSpec({"input": source, "target": target_field(self.class_names)})

    def prepare(self, device: torch.device) -> Prepare:
        """Noise for the training vectors, when asked."""
        return prepare_vectors(self.outline().fields, self.augment)

    def raw(self, inputs: torch.Tensor) -> Sequence[Any]:
        """Rows by the features' names."""
        return [dict(zip(self.feature_names, row, strict=True)) for row in inputs.tolist()]

    def reader(self) -> Reader:
        return TableReader(self.feature_names)


class TableSource(VectorSource):
    """Vectors whose features have units; ``standardize`` gives each mean 0 and std 1.

    A missing value is NaN on the way here, and becomes the mean of the training rows.
    """

    unscaled: Sequence[int] = ()
    """Features that are no measure, such as the 0 and 1 of a category; never standardized."""

    def __init__(self, standardize: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.standardize = standardize

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Mean and standard deviation of each feature over the training rows.

        Raises :class:`UserError` for a feature that has no value in any of them.
        """
        inputs = splits["train"].columns["input"]
        self.scaling = learn_scaling(lambda: [inputs], self.unscaled, self.standardize)
        require_values(self.scaling, self.feature_names)
        return {
            name: InMemory({**split.columns, "input": self.scaling(split.columns["input"])})
            for name, split in splits.items()
        }

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """As they were before they were standardized; the validation split is in the training's."""
        standardized, self._splits = self._splits, self.splits()
        try:
            yield from super().labeled(split)
        finally:
            self._splits = standardized

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """With what the features were standardized by."""
        fields = dict(super().spec(splits).fields)
        mean, std = tuple(self.scaling.mean), tuple(self.scaling.std)
        fields["input"] = replace(fields["input"], mean=mean, std=std)
        return DataSpec(fields)

    def reader(self) -> Reader:
        """Rows by the features' names, filled and standardized as the training rows."""
        scaling = self.scaling
        return TableReader(
            self.feature_names, fill=scaling.fill, mean=scaling.mean, std=scaling.std
        )


def require_values(scaling: Scaling, names: Sequence[str]) -> None:
    """Raise :class:`UserError` for a feature that has no value in any of the training rows."""
    empty = [i for i, fill in enumerate(scaling.fill) if fill != fill]
    if empty:
        raise UserError(
            f"data: {names[empty[0]]!r} has no value in any of the training rows "
            "(data.exclude leaves a column out)."
        )


def target_field(class_names: Sequence[str]) -> Field:
    """A class by its names or, where there are none, one number."""
    if not class_names:
        return Field((1,), "number", "target")
    return Field((), "class", "target", size=len(class_names), names=tuple(class_names))


class BundledTable(TableSource):
    """A table that scikit-learn bundles, with a fixed test split: the same rows for every seed.

    The test split is stratified where the target is a class.
    """

    test_fraction = 0.2

    @abstractmethod
    def load(self) -> Any:
        """What scikit-learn returns: ``data`` (n, features) and ``target`` (n,)."""

    def splits(self) -> dict[str, Split]:
        bundled = self.load()
        target = torch.from_numpy(bundled.target)
        columns = {
            "input": torch.from_numpy(bundled.data),
            "target": target.long() if self.class_names else target.float()[:, None],
        }
        train, test = hold_out_test(columns["target"], self.test_fraction)
        whole = InMemory(columns)
        return {"train": whole.only(train), "test": whole.only(test)}


class Iris(BundledTable):
    """150 iris flowers of three species (Fisher 1936)."""

    feature_names = ("sepal length", "sepal width", "petal length", "petal width")
    class_names = ("setosa", "versicolor", "virginica")

    def load(self) -> Any:
        """Lengths in cm."""
        from sklearn.datasets import load_iris

        return load_iris()


class BreastCancer(BundledTable):
    """569 tumors, told malignant from benign by their cells' nuclei (Street et al. 1993, UCI)."""

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
        """Mean, standard error and worst of ten measures of a tumor's nuclei."""
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
        """Unscaled: standardizing is the training split's business."""
        from sklearn.datasets import load_diabetes

        return load_diabetes(scaled=False)
