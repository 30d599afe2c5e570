"""Parts that an installed package offers by an entry point; a script tries a real installation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from dltrain.config import compose as composition
from dltrain.config import offered
from dltrain.config.build import plan
from dltrain.errors import ConfigError
from dltrain.runs.load import allowed_packages

PARTS = """
from torch import nn


class Bean(nn.Linear):
    def __init__(self, outputs: int, load: object = None) -> None:
        super().__init__(2, outputs)


class Harm:
    def __init__(self) -> None:
        raise AssertionError("made")
"""


@pytest.fixture
def beans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As an installation leaves it."""
    models = tmp_path / "beans" / "configs" / "model"
    models.mkdir(parents=True)
    for package in (tmp_path / "beans", tmp_path / "beans" / "configs"):
        (package / "__init__.py").write_text("")
    (tmp_path / "beans" / "parts.py").write_text(PARTS)
    text = "# @package _global_\n# {}\nmodel: {{_target_: beans.parts.Bean}}\n"
    (models / "bean.yaml").write_text(text.format("A bean."))
    (models / "mlp.yaml").write_text(text.format("A name that is taken."))
    info = tmp_path / "beans-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beans\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dltrain.configs]\nbeans = beans.configs\ngone = gone_with_it.configs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    offered.config_packages.cache_clear()
    yield tmp_path
    offered.config_packages.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "beans"]:
        del sys.modules[name]


def test_its_choices_are_choices_and_a_built_in_one_keeps_its_name(
    beans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "A bean." in composition.choices("model")["bean"]
    assert "taken" not in composition.choices("model")["mlp"]
    assert composition.compose(["model=bean"])["model"]["_target_"] == "beans.parts.Bean"
    assert caplog.messages == ["gone: there is no package gone_with_it.configs, which it offers."]


def test_without_one_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    offered.config_packages.cache_clear()
    assert offered.config_packages() == ()
    assert "bean" not in composition.choices("model")


def test_a_run_s_folder_may_name_its_parts_and_nothing_else(
    beans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"_target_": "beans.parts.Bean", "outputs": 3}
    plan(node, nn.Module, "model", {}, allowed_packages()).make()
    harm = {"_target_": "beans.parts.Harm"}
    with pytest.raises(ConfigError, match="takes no class in the config of a run's folder"):
        plan(node | {"load": harm}, nn.Module, "model", {}, allowed_packages()).make()
    with pytest.raises(ConfigError, match="may not import"):
        plan({"_target_": "gone_with_it.Net"}, nn.Module, "model", {}, allowed_packages()).make()
    monkeypatch.setenv("DLTRAIN_PACKAGES", "beans")
    with pytest.raises(AssertionError, match="made"):
        plan(node | {"load": harm}, nn.Module, "model", {}, allowed_packages()).make()
