"""What folders of images mean, which files are used, and what is said of the others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.contracts.data import DataSpec, Placement
from dltrain.data.images.image_folder import ImageFolder
from dltrain.errors import UserError

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """``tree("train/cat", "dog")``: four images in each of these folders."""

    def grown(*folders: str) -> Path:
        for number, name in enumerate(folders):
            place = tmp_path / "images" / name
            place.mkdir(parents=True, exist_ok=True)
            for row in range(4):
                ramp = np.arange(16, dtype=np.uint8).reshape(4, 4) + 10 * row + number
                Image.fromarray(ramp).save(place / f"{row}.png")
        return tmp_path / "images"

    return grown


def source(path: Path, **settings: Any) -> ImageFolder:
    given: dict[str, Any] = {"root": str(path.parent / "own"), "validation": 0}
    return ImageFolder(str(path), **given | settings)


def read(path: Path, **settings: Any) -> DataSpec:
    return source(path, **settings).read(0)


def test_a_class_may_be_called_train(tree: Tree) -> None:
    assert read(tree("bus", "car", "train")).class_names == ("bus", "car", "train")


def test_splits_may_be_named(tree: Tree) -> None:
    path = tree("train/a", "train/b", "val/a", "val/b", "more/a", "more/b")
    one = source(path, splits={"train": "more", "test": "val"})
    spec = one.read(0)

    assert spec.target.counts == (4, 4)
    assert one.splits().keys() == {"train", "test"}
    assert "train/" in str(one.unused)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"splits": {"train": "train", "tset": "val"}}, "no split 'tset'. Did you mean 'test'?"),
        ({"splits": {"train": "train", "test": "vla"}}, "no folder 'vla'. Did you mean 'val'?"),
        ({"splits": {"test": "val"}}, "splits: train has a folder"),
        ({"splits": {"train": "val", "test": "val"}}, "each split its own"),
        ({"splits": {"train": "val"}, "layout": "splits"}, "layout is auto then"),
    ],
)
def test_splits_that_cannot_be_are_refused(settings: dict[str, Any], told: str, tree: Tree) -> None:
    path = tree("train/a", "train/b", "val/a", "val/b")
    with pytest.raises(ValueError, match=re.escape(told)):
        read(path, **settings)


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (("bus/a", "bus/b", "train/a", "train/b"), r"train/ with folders in them.*these bus/"),
        (("cat", "dog", "test"), r"has test/ beside cat/, dog/, but no train/"),
        (("test/a", "val/a"), r"has val/, test/, but no train/"),
        (("train", "test"), r"train/, test/ have no class folders"),
    ],
)
def test_folders_that_may_mean_two_things_are_refused_with_the_switch(
    folders: tuple[str, ...], found: str, tree: Tree
) -> None:
    path = tree(*folders)
    with pytest.raises(ValueError, match=found) as caught:
        read(path)
    assert "data.layout=classes" in str(caught.value)
    tops = sorted({name.partition("/")[0] for name in folders})
    assert read(path, layout="classes").class_names == tuple(tops)


def test_what_is_asked_for_is_used_and_the_rest_is_counted(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    path = tree("train/a", "train/b", "bus/a", "other", "valid/a", "val/a")
    caplog.set_level("INFO")
    assert read(path, layout="splits").class_names == ("a", "b")
    assert "folders of no split 8 (bus/, other/)" in caplog.text
    assert "another folder of the split validation 4 (valid/)" in caplog.text
    assert "The validation split has no image of b." in caplog.text
    caplog.clear()
    given = source(path, layout="classes", classes=["other", "bus"])
    assert given.read(0).class_names == ("other", "bus")
    assert "left out by data.classes 16 (train, val, valid)" in caplog.text
    with pytest.raises(ValueError, match=r"no class 'busses', .* Did you mean 'bus'\?"):
        read(path, layout="classes", classes=["busses", "other"])
    with pytest.raises(ValueError, match="two or more different ones"):
        source(path, classes=["a", "a"])


def test_both_val_and_valid_are_said(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    names = ("Train", "val", "valid", "TEST")
    path = tree(*(f"{name}/{kind}" for name in names for kind in "ab"))
    assert read(path).target.counts == (4, 4)
    assert "not used: another folder of the split validation 8 (valid/)" in caplog.text


def test_every_file_is_used_or_named(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tree("a/deep/er", "b", "a/@eaDir", "__MACOSX/a", "b/.ipynb_checkpoints")
    for name in ("._0.png", "Thumbs.db", "notes.txt", "a.JPG.xml"):
        (path / "b" / name).write_text("no image")
    for name in ("config.yaml", "environment.json", "a.png"):
        (path / "a" / "outputs" / "run").mkdir(parents=True, exist_ok=True)
        (path / "a" / "outputs" / "run" / name).write_text("of a run")
    (path / "docs").mkdir()
    (path / "docs" / "README").write_text("no image")
    (path / "b" / "0.png").rename(path / "b" / "0.PNG")
    Image.new("L", (4, 4), 3).save(path / "b" / "named.dat", "png")
    Image.new("L", (4, 4), 3).save(path / "loose.png")
    (path / "b" / "round").symlink_to(path / "b")
    (path / "a" / "up").symlink_to("..")  # in which the images of b are
    os.mkfifo(path / "b" / "pipe")
    data = source(path)
    data.read(0)

    assert (data.class_names, len(data.files()[1]["train"].names)) == (("a", "b"), 4 + 5)
    said = caplog.text
    assert "9 images, 2 classes: a 4, b 5" in said
    assert "system files 9 (@eaDir, Thumbs.db, __MACOSX)" in said
    assert "hidden files 5 (._0.png, .ipynb_checkpoints)" in said
    assert "no image 3 (a.JPG.xml, notes.txt, README)" in said
    assert "run folders 3 (run)" in said
    assert "pipes and devices 1 (pipe)" in said
    assert "links to a folder above 2 (up, round)" in said
    assert "folders without image 1 (docs/)" in said
    assert "outside of class folders 1 (loose.png)" in said


def test_names_that_are_no_utf_8_and_links_that_lead_nowhere(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    path = tree("b", os.fsdecode(b"caf\xe9"))
    (path / "b" / "circle.png").symlink_to("circle.png")
    (path / "b" / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"dangling\.png is no image that can be read"):
        source(path).read(0)
    data = source(path, skip_unreadable=True)
    data.read(0)
    assert data.class_names == ("b", r"caf\udce9")
    assert "circle.png" in caplog.text


def test_a_name_is_the_same_in_one_code_point_or_two(tree: Tree) -> None:
    path = tree("train/caf\u00e9", "train/b", "test/cafe\u0301", "test/b")
    assert read(path).class_names == ("b", "caf\u00e9")


def test_classes_that_only_capitals_tell_apart_are_said(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(tree("Cat", "cat", "dog")).class_names == ("Cat", "cat", "dog")
    assert "The classes Cat and cat differ by capital letters alone." in caplog.text


def test_one_class_says_where_there_are_more(tree: Tree) -> None:
    with pytest.raises(ValueError, match=r"one class, 'pack'; .* or data\.path=.*/images/pack"):
        read(tree("pack/a", "pack/b"))


def test_a_link_that_leads_nowhere_is_named(tree: Tree) -> None:
    path = tree("a", "b")
    (path / "a" / "gone.png").symlink_to(path / "none.png")
    with pytest.raises(UserError, match=r"gone\.png is no image that can be read: No such file"):
        read(path)
    data = source(path, skip_unreadable=True, test=0.5)
    assert sum(len(split) for split in data.splits().values()) == 8


def test_a_file_changed_behind_its_date_is_decoded_anew(tree: Tree) -> None:
    path = tree("a", "b")
    for name in ("a/0.png", "a/1.png"):  # of one length, whatever is in it
        Image.new("L", (4, 4), 7).save(path / name, "bmp")
    first = source(path, test=0.5).splits()
    state = (path / "a" / "0.png").stat()
    Image.new("L", (4, 4), 99).save(path / "a" / "0.png", "bmp")
    os.utime(path / "a" / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (path / "a" / "0.png").stat().st_size == state.st_size

    second = source(path, test=0.5).splits()
    pairs = [(first[name].columns["input"], second[name].columns["input"]) for name in first]
    assert sum(int((old != new).any(1).any(1).any(1).sum()) for old, new in pairs) == 1


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ([""], ["train"]),
        (["train", "test"], ["train", "test"]),
        (["train/images", "val/images"], ["train", "validation"]),
        (["photos"], ["train"]),
    ],
)
def test_a_task_without_a_target_needs_no_classes(
    folders: list[str], splits: list[str], tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dltrain")
    path = tree(*folders)
    with pytest.raises(ValueError, match=r"no folder|has one class|have no class folders"):
        read(path)
    one = source(path)
    one.target_needed = False
    spec = one.read(0)

    assert not spec.of("target")
    assert spec.complete
    assert one.splits().keys() == {*splits, "test"}
    assert f"{4 * len(folders)} images, no classes" in caplog.text
    batch = next(iter(one.open(Placement(torch.device("cpu"), 0))["train"].batches(0)))
    assert batch.keys() == {"input"}
    with pytest.raises(UserError, match="no target to be evaluated by"):
        next(one.labeled(None))


def test_classes_stay_where_there_are_some(tree: Tree) -> None:
    path = tree("a", "b", "")
    one = source(path)
    one.target_needed = False

    assert one.read(0).class_names == ("a", "b")
    asked = source(path, layout="unlabeled")
    with pytest.raises(ValueError, match="layout=unlabeled leaves no classes"):
        asked.read(0)
    asked.target_needed = False
    assert not asked.read(0).of("target")
    assert sum(len(split) for split in asked.splits().values()) == 12


def test_a_size_is_chosen_where_any_will_do(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dltrain")
    path = tree("a", "b")
    one = source(path)
    one.any_size = True
    assert one.read(0).input.shape == (1, 4, 4), "where they have one"
    Image.new("L", (5, 7)).save(path / "a" / "other.png")
    other = source(path)
    with pytest.raises(UserError, match=r"Give data\.size=SIDE"):
        other.read(0)
    other.any_size = True
    assert other.read(0).input.shape == (1, 256, 256)
    assert "they are of several sizes: data.size was taken as 256." in caplog.text
