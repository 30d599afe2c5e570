"""What was found in images, as people and programs read it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.config.paths import absolute
from dltrain.contracts.data import Field
from dltrain.contracts.task import Predictions
from dltrain.data.detection.coco import Coco
from dltrain.inference.answers import Answers
from dltrain.inference.writers import CsvWriter, JsonWriter, LineWriter


def found(*lengths: int) -> Answers:
    rows = len(lengths)
    columns = {
        "boxes": torch.arange(rows * 12.0).view(rows, 3, 4),
        "labels": torch.tensor([[0, 1, 0]]).repeat(rows, 1),
        "score": torch.tensor([[0.9, 0.51234567, 0.3]]).repeat(rows, 1),
        "boxes_length": torch.tensor(lengths),
    }
    fields = {
        "boxes": Field((None, 4), "boxes", fill=0.0),
        "labels": Field((None,), "class", size=2, names=("cat", "dog"), fill=0),
        "score": Field((None,), "number", fill=0.0),
        "boxes_length": Field((), "number"),
    }
    return Answers(Predictions(columns, fields))


def test_every_example_has_its_objects_and_no_more() -> None:
    answers = Answers.joined([found(3, 0), found(1)])

    assert answers.columns == ["objects"]
    assert [len(objects) for objects in answers["objects"]] == [3, 0, 1]
    assert answers[0]["objects"][1] == {"box": [4, 5, 6, 7], "class": "dog", "score": 0.5123}
    assert list(map(str, answers["objects"])) == ["cat 2, dog 1", "nothing", "cat 1"]


def test_objects_are_counted_for_people_and_whole_for_programs() -> None:
    columns: dict[str, Any] = {"image": ["a.png", "b.png"], "objects": found(2, 0)["objects"]}
    lines, table, objects = io.StringIO(), io.StringIO(), io.StringIO()
    LineWriter(lines).write(columns)
    CsvWriter(table).write(columns)
    writer = JsonWriter(objects, lines=True)
    writer.write(columns)
    writer.close()

    assert lines.getvalue().splitlines()[1].split(maxsplit=1) == ["a.png", "cat 1, dog 1"]
    (_, first, second) = csv.reader(io.StringIO(table.getvalue()))
    assert json.loads(first[1])[0]["class"] == "cat"
    assert second == ["b.png", "[]"]
    row = json.loads(objects.getvalue().splitlines()[0])
    assert row["objects"][0] == {"box": [0, 1, 2, 3], "class": "cat", "score": 0.9}


@pytest.mark.parametrize("annotations", ["a.json", {"train": "a.json"}])
def test_a_run_keeps_where_its_annotations_lie(annotations: Any, tmp_path: Path) -> None:
    target = f"{Coco.__module__}.Coco"
    config = {
        "data": {"_target_": target, "path": "d", "annotations": annotations},
        "output_dir": "o",
    }

    kept = absolute(config, tmp_path)["data"]["annotations"]

    assert (kept if isinstance(kept, str) else kept["train"]) == str(tmp_path / "a.json")
