"""Images with boxes: what is read of VOC, COCO and YOLO files, and what is refused or counted."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.contracts.data import Batch
from dltrain.data.detection.annotations import Findings
from dltrain.data.detection.augment import BoxAugment
from dltrain.data.detection.coco import Coco
from dltrain.data.detection.placement import placement
from dltrain.data.detection.reader import DetectionReader
from dltrain.data.detection.source import DetectionSource
from dltrain.data.detection.voc import Voc, _names
from dltrain.data.detection.yolo_txt import YoloTxt
from dltrain.data.images.decode import Fit, Opened, Shape, fitted
from dltrain.errors import UserError
from tests.boxes import (
    Boxes,
    coco,
    voc_xml,
    write_coco,
    write_image,
    write_list,
    write_voc,
    write_yolo,
)
from tests.conftest import REPOSITORY
from tests.streams import opened

IMAGES: dict[str, Boxes] = {
    "a": [("cat", 4, 6, 20, 22), ("dog", 30, 8, 44, 30)],
    "b": [("dog", 10, 10, 30, 20)],
    "c": [],
    "d": [("cat", 0, 0, 12, 12)],
    "e": [("cat", 20, 4, 40, 28)],
}


def everything(source: DetectionSource, split: str = "train") -> Batch:
    """A split in its order, in one batch."""
    source.read(0)
    return next(iter(opened(source)[split].plain()))


def read(kind: type[DetectionSource], folder: Path, **settings: Any) -> Batch:
    root = str(folder / "kept")
    settings = {"validation": 0, "batch_size": 8, "evaluation_batch_size": 9, **settings}
    return everything(kind(str(folder), root=root, **settings))


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_placement_is_what_is_done_to_the_pixels(fit: Fit) -> None:
    for width, height, wide, high in ((97, 61, 64, 64), (60, 90, 96, 48), (64, 48, 32, 24)):
        shape = Shape(1, high, wide, fit)
        placed = placement(width, height, shape)
        # A ramp tells of each pixel where it was: bilinear resizing keeps a line.
        for axis, side in ((1, width), (0, height)):
            ramp = np.arange(side, dtype=np.uint8).reshape((1, -1) if axis else (-1, 1))
            image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(ramp, (height, width))))
            pixels = fitted(Opened(image), shape)[0].astype(float)
            scale, offset = (
                (placed.scale_x, placed.x_offset) if axis else (placed.scale_y, placed.y_offset)
            )
            places = np.arange(wide if axis else high) + 0.5
            expected = (places - offset) / scale - 0.5
            line = pixels[high // 2] if axis else pixels[:, wide // 2]
            inner = (expected > 2) & (expected < side - 3)
            assert np.abs(line - expected)[inner].max() <= 1.0


def test_voc_files_become_boxes_of_the_input_in_the_lists_splits(tmp_path: Path) -> None:
    write_voc(tmp_path, IMAGES)
    write_list(tmp_path, "train", ["a", "c"])
    write_list(tmp_path, "test", ["b 1", "d 1"])
    assert list(_names([" my a ", "my a 1", "a 1  0", "zz 1", ""], {"my a", "a"})) == [
        *("my a", "my a", "a", "zz"),
    ]
    source = Voc(str(tmp_path), root=str(tmp_path / "kept"), size=96, validation=0)

    batch = everything(source)

    # 48x32 in 96x96: doubled, with bars of 16 above and below.
    assert batch["boxes_length"].tolist() == [2, 0]
    assert batch["boxes"][0, 0].tolist() == [8, 28, 40, 60]
    assert batch["labels"].tolist() == [[0, 1], [0, 0]]
    assert batch["image_size"].tolist() == [[32, 48]] * 2
    spec = source.read(0)
    assert spec.fields["labels"].names == ("cat", "dog")
    assert spec.fields["labels"].counts == (1, 1)
    assert {name: stream.examples for name, stream in opened(source).items()} == {
        "train": 2,
        "test": 2,
    }
    new = source.reader().read([tmp_path / "JPEGImages" / "a.png"])
    for name in ("input", "image_size", "placement"):
        assert torch.equal(new[name][0], batch[name][0])
    rebuilt = source.reader().node(tmp_path)
    assert rebuilt["_target_"] == f"{DetectionReader.__module__}.DetectionReader"


def test_the_three_formats_give_the_same_boxes(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", IMAGES)
    write_coco(tmp_path / "coco", IMAGES)
    write_yolo(tmp_path / "yolo", IMAGES)
    (tmp_path / "yolo" / "data.yaml").write_text("names: {0: cat, 1: dog}")

    voc = read(Voc, tmp_path / "voc", test=0.2)
    for batch in (read(Coco, tmp_path / "coco"), read(YoloTxt, tmp_path / "yolo")):
        assert batch.keys() == voc.keys()
        for name, column in batch.items():
            assert torch.allclose(column.double(), voc[name].double(), atol=1e-4), name


def test_boxes_that_cannot_be_used_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    faulty = [
        ("cat", 4, 4, 4, 20),
        ("cat", 60, 4, 70, 20),
        ("cat", 40, 4, 90, 20),
        ("bird", 4, 4, 9, 9),
    ]
    write_voc(tmp_path, {**IMAGES, "a": faulty})
    (tmp_path / "Annotations" / "z.xml").write_text(voc_xml([]))

    batch = read(Voc, tmp_path, classes=["dog", "cat"], test=0.2)

    said = caplog.text
    assert "without area 1 (" in said
    assert f"{tmp_path}/Annotations/a.xml, line 9" in said
    assert "outside of the image 1 (" in said
    assert "clipped at the image's border 1 (" in said
    assert "left out by data.classes 1 (bird)" in said
    assert "annotations without their image 1 (z.xml)" in said
    assert "1 images have no box" in said
    assert [40.0, 4.0, 48.0, 20.0] in batch["boxes"].flatten(0, 1).tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (voc_xml([("cat", 20, 4, 9, 20)]), "line 9: a box's corners are in the wrong order"),
        (voc_xml([("cat", 2, 4, "x", 20)]), "line 9: <xmax> is no number"),  # type: ignore[list-item]
        (voc_xml([("cat", 2, 4, float("nan"), 20)]), "line 9: a box has a number that is not"),
        (voc_xml([("", 2, 4, 9, 20)]), "line 7: an object has no <name>"),
        (voc_xml([], size=(32, 48)), "is 32x48, and it is 48x32 (the other way round: if EXIF"),
        ("<annotation>\n<object>", "line 2: is no XML that is whole"),
        ("<html/>", "line 1: is <html>, and no <annotation>"),
        (
            "<!DOCTYPE a [<!ENTITY b 'bb'>]>\n<annotation/>",
            "line 1: a document type is declared, which is not read",
        ),
        ("<a>" * 40, "line 1: nested too deeply"),
    ],
)
def test_faults_of_a_voc_file_are_told_by_file_and_line(
    text: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_voc(tmp_path, IMAGES)
    (tmp_path / "Annotations" / "a.xml").write_text(text)

    with pytest.raises(UserError) as error:
        read(Voc, tmp_path)

    assert said in str(error.value)
    assert f"{tmp_path}/Annotations/a.xml" in str(error.value)
    assert "data.skip_faulty=true" in str(error.value)
    read(Voc, tmp_path, skip_faulty=True)
    assert "with a fault 1 (" in caplog.text


def test_lists_of_voc_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    write_voc(tmp_path, IMAGES)
    write_list(tmp_path, "trainval", ["a", "b"])
    write_list(tmp_path, "test", ["b"])
    with pytest.raises(ValueError, match=r"has no train.txt: say which list is trained on"):
        read(Voc, tmp_path)
    with pytest.raises(UserError, match="'b' is listed for train and for test"):
        read(Voc, tmp_path, splits={"train": "trainval", "test": "test"})
    with pytest.raises(ValueError, match=r"there is no file .*trainvall.txt. Did you mean"):
        read(Voc, tmp_path, splits={"train": "trainvall"})
    write_list(tmp_path, "test", ["nobody"])
    with pytest.raises(UserError, match=r"1 names have no file in .*, 'nobody' for one"):
        read(Voc, tmp_path, splits={"train": "trainval", "test": "test"})


def test_coco_crowds_are_ignored_and_missing_images_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_coco(tmp_path, IMAGES)
    file = tmp_path / "annotations" / "instances_train.json"
    content = coco(IMAGES)
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"].append({"id": 9000, "image_id": 77, "category_id": 7})
    content["images"].append({"id": 50, "file_name": "gone.png"})
    file.write_text(json.dumps(content))

    with caplog.at_level("INFO"):
        batch = read(Coco, tmp_path, test=0.2)

    assert int(batch["ignored"].sum()) == 1
    assert "4 boxes of 2 classes: cat 2, dog 2" in caplog.text
    assert "1 more are ignored" in caplog.text
    assert "images that are not there 1 (gone.png)" in caplog.text
    assert "boxes of images that are not listed 1 (" in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "images[1] have the same id 1"),
        ({"categories": [{"id": 7, "name": "cat"}, {"id": 7, "name": "dog"}]}, "the same id 7"),
        ({"categories": [{"id": 7, "name": "cat"}]}, "annotations[1]: its category_id 8 is none"),
        ({"images": [{"id": 0, "file_name": "../../a.png"}]}, "'../../a.png' leads out"),
        ({"images": [{"id": 0, "file_name": "gone.png"}]}, "none of its 1 images is there"),
        ({"images": {}}, "has no list 'images'"),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 3]}]},
         "annotations[0]: its bbox is no [left, top, width, height]: [1, 2, 3]"),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, -3, 4]}]},
         "annotations[0]: a box's corners are in the wrong order"),
        ({"annotations": [
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": "1"}
         ]}, "annotations[0]: its iscrowd is neither 0 nor 1: '1'"),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4]}] * 2},
         "annotations[1]: has the id 1 of annotations[0]"),
    ],
)  # fmt: skip
def test_faults_of_a_coco_file_are_told_by_their_place(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_coco(tmp_path, IMAGES, **changes)

    with pytest.raises((UserError, ValueError)) as error:
        read(Coco, tmp_path)

    assert said in str(error.value)
    assert "instances_train.json" in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 2: there is no class 2: there are 0 to 1"),
        ("0 20 20 10 10", "line 2: has numbers that are no fractions from 0 to 1"),
        ("0 0.5 0.5 -0.1 0.1", "line 2: has numbers that are no fractions from 0 to 1"),
        ("0 0.5 0.5 0.1", "line 2: has 4 numbers, and a box is class x y width height"),
        ("cat 0.5 0.5 0.1 0.1", "line 2: is no list of numbers"),
        ("0 nan 0.5 0.1 0.1", "line 2: a box has a number that is not finite"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2: there is no class 0.5"),
    ],
)
def test_faults_of_a_yolo_file_are_told_by_file_and_line(
    line: str, said: str, tmp_path: Path
) -> None:
    write_yolo(tmp_path, IMAGES)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "labels" / "train" / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")

    with pytest.raises(UserError) as error:
        read(YoloTxt, tmp_path)

    assert f"labels/train/a.txt, {said}" in str(error.value)


def test_boxes_lie_in_the_image_as_exif_behind_the_pixels_turns_it(tmp_path: Path) -> None:
    write_yolo(tmp_path, {name: [("cat", 24, 16, 48, 32)] for name in "abcde"})
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    length, check = (len(chunk) - 4).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    for file in (tmp_path / "images" / "train").iterdir():
        image = Image.open(file).transpose(Image.Transpose.ROTATE_90)
        image.save(file)
        content = file.read_bytes()
        file.write_bytes(content[:-12] + length + chunk + check + content[-12:])
    batch = read(YoloTxt, tmp_path, size=48, test=0.2)
    assert batch["image_size"].tolist() == [[32, 48]] * 4
    left, top, right, bottom = map(int, batch["boxes"][0, 0].tolist())
    bright = batch["input"][0, 0] == batch["input"][0, 0].max()
    assert bright.sum() == bright[top:bottom, left:right].sum() == 24 * 16


def test_a_number_without_a_name_is_bounded(tmp_path: Path) -> None:
    write_yolo(tmp_path, IMAGES)
    (tmp_path / "labels" / "train" / "a.txt").write_text("900000 0.5 0.5 0.5 0.5")
    with pytest.raises(UserError, match=r"a.txt, line 1: there is no class 900000: it is a number"):
        read(YoloTxt, tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", IMAGES)
    write_yolo(tmp_path / "yolo", IMAGES)
    (tmp_path / "yolo" / "classes.txt").write_text("cat\ndog\n")
    for file in (
        tmp_path / "coco" / "annotations" / "instances_train.json",
        tmp_path / "yolo" / "classes.txt",
        tmp_path / "yolo" / "labels" / "train" / "a.txt",
    ):
        file.write_text(file.read_text(), encoding="utf-8-sig")
    coco_batch = read(Coco, tmp_path / "coco", test=0.2)
    source = YoloTxt(str(tmp_path / "yolo"), root=str(tmp_path / "kept"), test=0.2, validation=0)
    yolo_batch = everything(source)
    assert source.class_names == ("cat", "dog")
    assert torch.equal(coco_batch["labels"], yolo_batch["labels"])


def test_images_of_one_name_are_told_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_voc(tmp_path / "voc", IMAGES)
    write_yolo(tmp_path / "yolo", IMAGES)
    annotation = tmp_path / "voc" / "Annotations" / "a.xml"
    for image in (
        tmp_path / "voc" / "JPEGImages" / "a.jpg",
        tmp_path / "voc" / "JPEGImages" / "new.png",
        tmp_path / "yolo" / "images" / "train" / "a.jpg",
    ):
        write_image(image)
    with pytest.raises(UserError, match=r"a.xml: may be of a.jpg or a.png: name it as <filename>"):
        read(Voc, tmp_path / "voc")
    annotation.write_text(voc_xml(IMAGES["a"], filename="a.png"))
    assert len(read(Voc, tmp_path / "voc", test=0.2)["labels"]) == 4
    assert "images without an annotation 2 (a.jpg, new.png)" in caplog.text
    with pytest.raises(UserError, match=r"a.txt: may be of a.jpg or a.png"):
        read(YoloTxt, tmp_path / "yolo")


def test_yolo_polygons_become_boxes_and_names_are_checked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_yolo(tmp_path, IMAGES)
    write_yolo(tmp_path, {"t": IMAGES["a"]}, "val")
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 0.75")
    (tmp_path / "labels" / "train" / "left.txt").write_text("")

    batch = read(YoloTxt, tmp_path, test=0.2)

    assert [12.0, 8.0, 36.0, 24.0] in batch["boxes"].flatten(0, 1).tolist()
    assert "polygons, of which the enclosing box is taken 1" in caplog.text
    assert "labels without an image 1 (left.txt)" in caplog.text
    for content, said in (
        ("names: [cat, cat]", "the name 'cat' stands twice"),
        ("names: {1: cat}", "not numbered from 0 to 0"),
        ("a: &a [1]\nnames: [*a, *a]", "has no names of classes"),
        ("names: [", "line 1: is no YAML"),
    ):
        (tmp_path / "data.yaml").write_text(content)
        with pytest.raises(UserError, match=said):
            read(YoloTxt, tmp_path)


def test_what_stands_twice_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_voc(tmp_path / "voc", IMAGES)
    write_list(tmp_path / "voc", "train", "abcda")
    write_list(tmp_path / "voc", "test", "e")
    assert len(read(Voc, tmp_path / "voc")["labels"]) == 4
    assert "more lines of a name in its list 1 (a)" in caplog.text
    write_yolo(tmp_path / "yolo", IMAGES)
    file = tmp_path / "yolo" / "labels" / "train" / "a.txt"
    file.write_text("\n".join(file.read_text().splitlines() * 2))
    read(YoloTxt, tmp_path / "yolo", test=0.2)
    assert "the same box twice 2 (" in caplog.text
    assert f"{file}, line 3" in caplog.text
    caplog.clear()
    file = tmp_path / "voc" / "Annotations" / "a.xml"
    text = file.read_text()
    found = text[text.index("<object>") : text.rindex("</object>") + len("</object>")]
    file.write_text(text.replace(found, found * 2))
    read(Voc, tmp_path / "voc")
    assert "the same box twice 2 (" in caplog.text


def test_endings_in_capitals_are_those_of_annotations(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", IMAGES)
    write_list(tmp_path / "voc", "train", "abcd")
    write_list(tmp_path / "voc", "test", "e")
    write_yolo(tmp_path / "yolo", IMAGES)
    before = [
        read(Voc, tmp_path / "voc")["boxes"],
        read(YoloTxt, tmp_path / "yolo", test=0.2)["boxes"],
    ]
    for file in (tmp_path / "voc" / "Annotations").iterdir():
        file.rename(file.with_suffix(".XML"))
    labels = tmp_path / "yolo" / "labels" / "train"
    for file in labels.iterdir():
        file.rename(file.with_suffix(".TXT"))

    after = [
        read(Voc, tmp_path / "voc")["boxes"],
        read(YoloTxt, tmp_path / "yolo", test=0.2)["boxes"],
    ]

    assert all(map(torch.equal, before, after))
    (labels / "a.txt").write_bytes((labels / "a.TXT").read_bytes())
    with pytest.raises(UserError, match=r"a\.txt: is called as a\.TXT is: leave one there"):
        read(YoloTxt, tmp_path / "yolo", test=0.2)


def test_images_without_any_box_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path, {name: [] for name in IMAGES})
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="no training image has a box: there is nothing to learn"):
        read(YoloTxt, tmp_path, test=0.2)
    write_coco(tmp_path / "crowds", IMAGES)
    content = coco(IMAGES)
    for one in content["annotations"]:
        one["iscrowd"] = 1
    file = tmp_path / "crowds" / "annotations" / "instances_train.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no training image has a box but those that are ignored"):
        read(Coco, tmp_path / "crowds", test=0.2)


def test_what_is_only_for_one_class_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="balance is for data with one class an image"):
        Voc(str(tmp_path), root="r", balance=True)
    with pytest.raises(ValueError, match="saturation is of red, green and blue"):
        Voc(str(tmp_path), root="r", channels=1, augment=BoxAugment(saturation=0.5))
    write_image(tmp_path / "Annotations" / "no.png")
    with pytest.raises(ValueError, match="has Annotations, but no folder JPEGImages"):
        read(Voc, tmp_path)


def test_images_beyond_the_memory_limit_are_streamed_with_the_same_boxes(tmp_path: Path) -> None:
    write_voc(tmp_path, IMAGES)
    held = read(Voc, tmp_path, test=0.2)
    streamed = read(Voc, tmp_path, test=0.2, memory_limit=0, workers=0)

    assert held.keys() == streamed.keys()
    assert all(torch.equal(held[name], streamed[name]) for name in held)


def test_blood_cells_are_counted_as_their_readme_has_them(tmp_path: Path) -> None:
    root = os.environ.get("DLTRAIN_DATA") or REPOSITORY.parent / "shared" / "data"
    path = Path(root) / "bccd"
    if not path.is_dir():
        pytest.skip(f"no blood cells: there is no {path}; DLTRAIN_DATA names the folder above")
    source = Voc(str(path), root=str(tmp_path))
    splits = source.annotated(Findings())
    found = {
        name: Counter(box.name for one in images for box in one.boxes)
        for name, images in splits.items()
    }

    assert {name: len(images) for name, images in splits.items()} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    assert sum(found.values(), Counter()) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert found["test"] == {"RBC": 805, "WBC": 71, "Platelets": 69}
