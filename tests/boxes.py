"""Small images with boxes, in files as VOC, COCO and YOLO have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Boxes = Sequence[tuple[str, float, float, float, float]]
SIZE = (48, 32)  # width, height


def write_image(path: Path, boxes: Boxes = (), size: tuple[int, int] = SIZE) -> None:
    """Gray, with each box bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), 40, np.uint8)
    for name, left, top, right, bottom in boxes:
        color = (250, 60, 60) if name == "cat" else (60, 250, 60)
        pixels[max(0, int(top)) : int(bottom), max(0, int(left)) : int(right)] = color
    Image.fromarray(pixels).save(path)


def voc_xml(boxes: Boxes, size: tuple[int, int] = SIZE, filename: str = "") -> str:
    """An annotation, an element a line."""
    lines = ["<annotation>", f"<filename>{filename}</filename>", "<size>"]
    lines += [f"<width>{size[0]}</width>", f"<height>{size[1]}</height>", "</size>"]
    for name, *corners in boxes:
        keys = ("xmin", "ymin", "xmax", "ymax")
        box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
        lines += ["<object>", f"<name>{name}</name>", f"<bndbox>{box}</bndbox>", "</object>"]
    return "\n".join([*lines, "</annotation>"])


def write_voc(folder: Path, images: Mapping[str, Boxes]) -> None:
    """An image and its annotation each; no lists."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for name, boxes in images.items():
        write_image(folder / "JPEGImages" / f"{name}.png", boxes)
        (folder / "Annotations" / f"{name}.xml").write_text(voc_xml(boxes))


def write_list(folder: Path, name: str, entries: Sequence[str]) -> None:
    """One of VOC's lists."""
    place = folder / "ImageSets" / "Main"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.txt").write_text("".join(f"{entry}\n" for entry in entries))


def coco(content: Mapping[str, Boxes], **changes: Any) -> dict[str, Any]:
    """The content of a file about such images; ``changes`` replace its lists."""
    names = sorted({box[0] for boxes in content.values() for box in boxes})
    annotations = [
        {
            "id": 100 * place + number,
            "image_id": place,
            "category_id": names.index(name) + 7,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }
        for place, boxes in enumerate(content.values())
        for number, (name, left, top, right, bottom) in enumerate(boxes)
    ]
    return {
        "images": [
            {"id": place, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]}
            for place, name in enumerate(content)
        ],
        "annotations": annotations,
        "categories": [{"id": place + 7, "name": name} for place, name in enumerate(names)],
        **changes,
    }


def write_coco(folder: Path, content: Mapping[str, Boxes], **changes: Any) -> None:
    """Images in ``images``, and ``annotations/instances_train.json``."""
    for name, boxes in content.items():
        write_image(folder / "images" / f"{name}.png", boxes)
    (folder / "annotations").mkdir(exist_ok=True)
    text = json.dumps(coco(content, **changes))
    (folder / "annotations" / "instances_train.json").write_text(text)


def write_yolo(folder: Path, images: Mapping[str, Boxes], split: str = "train") -> None:
    """Images and labels of a split; cat is class 0, dog 1."""
    for name, boxes in images.items():
        write_image(folder / "images" / split / f"{name}.png", boxes)
        labels = folder / "labels" / split / f"{name}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{('cat', 'dog').index(name)} {(a + c) / 2 / SIZE[0]} {(b + d) / 2 / SIZE[1]} "
            f"{(c - a) / SIZE[0]} {(d - b) / SIZE[1]}"
            for name, a, b, c, d in boxes
        ]
        labels.write_text("\n".join(lines))
