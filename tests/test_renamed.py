"""What was renamed: an old key or choice is refused with the new name, an old class still found."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import yaml

from dltrain.config import compose
from dltrain.config.build import build, plan
from dltrain.config.renamed import CHOICES, CLASSES, KEYS
from dltrain.contracts.data import Augment
from dltrain.errors import ConfigError, UserError
from dltrain.models.generative.gan import GAN
from dltrain.runs.load import allowed_packages, load
from tests.specs import images

ROOT = Path(__file__).parent.parent
OLD_AUGMENT = "dltrain.data.images.source.PictureAugment"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("model.kinds=3", "model.kinds: it is called model.clusters now."),
        (
            "callbacks.judge.run=RUN",
            "callbacks.judge.run: it is called callbacks.sample_quality.run now.",
        ),
        ("callbacks=[judge]", "callbacks=judge: it is called callbacks=sample_quality now."),
    ],
)
def test_an_old_name_on_the_command_line_is_refused_with_the_new_one(typed: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose.check(["model=gan", typed], multirun=False)
    assert [str(fault) for fault in caught.value.faults] == [told]


def test_an_old_key_is_refused_wherever_it_was_added() -> None:
    node = {"_target_": f"{GAN.__module__}.GAN", "kinds": 0}
    (fault,) = plan(node, GAN, "model", spec=images(1, 8, 8)).faults
    assert str(fault) == "model.kinds: it is called model.clusters now."
    with pytest.raises(ConfigError, match=r"callbacks\.judge: it is called callbacks\.sample_q"):
        build({"run": "RUN"}, object, "callbacks.judge")


def test_an_old_run_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    model = {"_target_": f"{GAN.__module__}.GAN", "kinds": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model, "task": {}}))
    (tmp_path / "data.json").write_text(json.dumps(images(1, 8, 8).to_json()))
    (tmp_path / "summary.json").write_text('{"status": "finished"}')
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    where, _, told = str(caught.value).partition(": ")
    assert Path(where).resolve() == (tmp_path / "config.yaml").resolve()
    assert told == "model.kinds: it is called model.clusters now."


def test_an_old_class_is_the_new_one_in_an_old_run_too() -> None:
    node = {"_target_": OLD_AUGMENT, "shift": 2}
    for packages in (None, allowed_packages()):
        made = plan(node, Augment, "data.augment", packages=packages).make()
        assert type(made).__name__ == "ImageAugment"


def test_every_new_name_is_there_and_no_old_one_is() -> None:
    for old, new in CLASSES.items():
        module, _, name = new.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        assert not hasattr(importlib.import_module(module), old.rpartition(".")[2])
    for old, new in CHOICES.items():
        there = [
            (ROOT / "configs" / f"{choice.replace('=', '/')}.yaml").is_file()
            for choice in (old, new)
        ]
        assert there == [False, True]
    texts = [path.read_text() for path in (ROOT / "configs").rglob("*.yaml")]
    for old, new in KEYS.items():
        old_key, new_key = (f"{name.rpartition('.')[2]}:" for name in (old, new))
        assert not any(f" {old_key}" in f" {text}".replace("\n", " ") for text in texts), old
        assert any(f" {new_key}" in f" {text}".replace("\n", " ") for text in texts), new
