"""What the data fills in: of every choice of a model, a task and so on, on every data set.

A wrong fill raises nothing: a target stays unscaled, classes lose their names. So all of it is
written down. After a change that is meant, ``python -m tests.test_filled_arguments`` writes it
again, and prints the difference, which is there to be read.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import nn

from dltrain.config import compose as composition
from dltrain.config.build import Plan, build, plan
from dltrain.contracts.data import DataSpec, Source
from dltrain.contracts.run import Callback, Modifier, Regularizer
from dltrain.contracts.task import Task
from dltrain.errors import ConfigError
from tests import test_data_configs
from tests.test_configs import NAMES, defaults_of, nodes, read

GOLDEN = Path(__file__).with_name("filled_arguments.json")
GROUPS: dict[str, type[Any]] = {
    "model": nn.Module,
    "task": Task,
    "callbacks": Callback,
    "regularizer": Regularizer,
    "modifier": Modifier,
}
WIDTH = 50
"""Characters of a value that are shown; of a longer one there is a hash."""
FILLED_BY_NAME = {"input_shape", "outputs", "vocabulary_size", "pad_index"}
EVERY = "every data set"
VARIANTS = {
    "csv_number": ("csv", ["data.target=b", "data.features=[a]"]),
    "image_folder_large": ("image_folder", ["data.size=224", "data.channels=3"]),
}
"""Data that tells what no data set tells as it stands, or that a network needs."""


def shown(value: Any) -> str:
    """A value in short; of a spec what decides the sizes of a network."""
    if isinstance(value, DataSpec):
        return "; ".join(
            f"{name}: {field.kind} {field.shape} {field.size}"
            for name, field in value.fields.items()
        )
    text = repr(value)
    return text if len(text) <= WIDTH else hashlib.sha256(text.encode()).hexdigest()[:12]


def told(spec: DataSpec) -> dict[str, str]:
    """What else a spec says of its fields: tasks and callbacks take it from there."""
    return {
        f"{name}.{fact}": shown(list(value) if isinstance(value, tuple) else value)
        for name, field in spec.fields.items()
        for fact in ("names", "counts", "fill", "mean", "std", "low", "high")
        if (value := getattr(field, fact)) not in ((), None)
    }


def all_specs(folder: Path) -> dict[str, DataSpec]:
    """Of each data set what it is, as a run is told; files are made where it needs some."""
    found = {}
    data_sets = {name: (name, list[str]()) for name in test_data_configs.NAMES}
    for name, (choice, extra) in {**data_sets, **VARIANTS}.items():
        own = folder / name
        own.mkdir()
        needed = test_data_configs.overrides(choice, own)
        config = composition.compose([f"data={choice}", "callbacks=none", *needed, *extra])
        source = build(config["data"], Source, "data")
        outline = source.outline()
        found[name] = outline if outline.complete else source.read(config["seed"])
    return found


def all_nodes() -> Iterator[tuple[str, type[Any], dict[str, Any]]]:
    """Every part of a run that is given what the data tells: its file, contract and config."""
    for name in NAMES:
        group = name.partition("/")[0]
        if group in GROUPS:
            for key, node in nodes(read(name)):
                # A limit of weights is chosen as a regularizer.
                kind = Modifier if key.startswith("modifiers.") else GROUPS[group]
                yield name, kind, node


def filled(checked: Plan[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not the config's."""
    return {
        name: value
        for name, value in checked.arguments.items()
        if name not in given and not (name == "model" and isinstance(value, nn.Module))
    }


def fits(checked: Plan[Any]) -> bool:
    """Whether it can be made for this data. Networks are, without memory for their weights."""
    if checked.faults:
        return False
    if checked.target is None or not issubclass(checked.target, nn.Module):
        return True
    if issubclass(checked.target, Task):
        return True
    try:
        with torch.device("meta"):
            checked.make()
    except ConfigError:
        return False
    return True


def table(folder: Path) -> dict[str, Any]:
    """What each data set tells and fills in, and by part which arguments that are."""
    values: dict[str, dict[str, str]] = defaultdict(dict)
    names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    parts = list(all_nodes())
    for data, spec in all_specs(folder).items():
        values[data] = told(spec)
        for part, kind, node in parts:
            known = {"model": nn.Identity()} if kind is Task else {}
            checked = plan(node, kind, part, known, spec=spec)
            if not fits(checked):
                continue
            given = {name: shown(value) for name, value in filled(checked, node).items()}
            names[part][" ".join(sorted(given)) or "nothing"].append(data)
            for name, text in given.items():
                assert values[data].setdefault(name, text) == text, (data, part, name)
    return {
        "values": {data: dict(sorted(of.items())) for data, of in sorted(values.items())},
        "filled": {
            part: {
                which: EVERY if len(data) == len(values) else " ".join(sorted(data))
                for which, data in sorted(of.items())
            }
            for part, of in sorted(names.items())
        },
    }


def test_the_data_fills_the_same_arguments_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    folder = tmp_path / "data"
    folder.mkdir()

    found, golden = table(folder), json.loads(GOLDEN.read_text(encoding="utf-8"))

    assert found["values"] == golden["values"]
    assert found["filled"] == golden["filled"]


def test_no_part_has_a_default_for_what_the_data_fills_in_by_name() -> None:
    """A default is a default: nobody would notice that the data's is not taken."""
    for part, kind, node in all_nodes():
        target = plan(node, kind, part, {}, complete=False).target
        if target is not None:
            wrong = FILLED_BY_NAME & set(defaults_of(target))
            assert not wrong, f"{part}: {', '.join(wrong)} is filled in only without a default"


if __name__ == "__main__":
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as made:
        content = json.dumps(table(Path(made)), indent=1, ensure_ascii=False) + "\n"
    before = GOLDEN.read_text(encoding="utf-8")
    print(
        *difflib.unified_diff(before.splitlines(), content.splitlines(), lineterm="", n=0), sep="\n"
    )
    GOLDEN.write_text(content, encoding="utf-8")
