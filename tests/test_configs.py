"""The config tree: every file composes, builds and runs, and the later choice wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain import run
from dltrain.build import TARGET, plan
from dltrain.tasks.adversarial import AdversarialGame
from dltrain.tasks.reconstruction import Reconstruction
from dltrain.tasks.variational import Variational
from tests.conftest import REPOSITORY, Cli, Compose, two_inputs

CONFIGS = REPOSITORY / "configs"
FILES = sorted(path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml"))
NAMES = [file.as_posix() for file in FILES]
# Data sets of the user's own files; test_data_configs makes such files and runs these.
OWN_FILES = {
    *("data/csv", "data/hub", "data/hub_table", "data/image_folder"),
    *("data/imdb", "data/hub_text", "data/text_csv"),
    "experiment/alexnet_imagenet",
    *("experiment/imdb_best", "experiment/imdb_bilstm", "experiment/imdb_rnn"),
}
# A file that is added here counts as exercised below; without that, this number is wrong.
COUNTS = {
    "train": 1,
    "callbacks": 15,
    "data": 20,
    "experiment": 24,
    "model": 24,
    "optimizer": 11,
    "regularizer": 9,
    "modifier": 3,
    "schedule": 6,
    "task": 9,
    "trainer": 1,
}
# What the files of a group, or one file, need beside them, where the defaults do not go with it.
COMPANY = {
    "data": ["model=mlp"],
    "data/toy_reviews": ["model=lstm"],
    "model/airbench": ["data=mnist"],
    "model/alexnet": ["data=mnist", "model.stride=1"],
    "model/alexnet_one_column": ["data=mnist", "model.stride=1"],
    "model/alexnet_small": ["data=mnist"],
    "model/attention": ["data=adding"],
    "model/gru": ["data=adding"],
    "model/lstm": ["data=adding"],
    "model/ngrams": ["data=toy_reviews"],
    "model/rnn": ["data=adding"],
    "regularizer/word_dropout": ["data=toy_reviews", "model=lstm"],
    "regularizer/adversarial": ["data=toy_reviews", "model=lstm"],
    "modifier/ema_generator": ["model=gan"],
    "task/adversarial": ["model=gan"],
    "task/reconstruction": ["model=autoencoder"],
    "task/regression": ["data=line", "model=mlp"],
    "task/text_classification": ["data=toy_reviews", "model=lstm"],
    "task/variational": ["model=vae"],
}


def command_line(name: str) -> list[str]:
    """What is typed to choose the config file ``name``."""
    group, _, choice = name.rpartition("/")
    # That no task is chosen is where the defaults begin; the data then names one.
    chosen = [f"{group}={choice}"] if group and name != "task/none" else []
    quiet = ["callbacks=none"] if group != "callbacks" else []
    return ["device=cpu", *quiet, *COMPANY.get(name, COMPANY.get(group, [])), *chosen]


def nodes(config: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every ``_target_`` node of a file, by its key."""
    if not isinstance(config, dict):
        return
    if TARGET in config:
        yield key, config
    for name, value in config.items():
        yield from nodes(value, f"{key}.{name}".lstrip("."))


def read(name: str) -> Any:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_file_is_counted() -> None:
    assert Counter(file.parts[0] for file in FILES) == COUNTS


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OWN_FILES])
def test_every_file_composes_builds_and_its_network_runs(name: str, compose: Compose) -> None:
    parts = run.assemble(compose(*command_line(name)))
    facts = parts.source.facts

    with torch.inference_mode():
        outputs = parts.task.eval().forward({"input": two_inputs(facts)})
        answers = next(iter(outputs.values()))

    # One score a picture, or the picture itself, not an output a class.
    shape = facts.get("input_shape")
    each = {AdversarialGame: (), Reconstruction: shape, Variational: shape}
    assert answers.shape == (2, *each.get(type(parts.task), (facts["outputs"],)))
    assert bool(answers.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_in_one_line_what_it_is(name: str) -> None:
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if not line.startswith("# @package"))

    assert head.startswith("# ")
    assert head.endswith(".")
    assert 10 < len(head) <= 100
    assert not lines[lines.index(head) + 1].startswith("# ") or name.startswith("experiment/")


@pytest.mark.parametrize("name", [name for name in NAMES if list(nodes(read(name)))])
def test_every_key_beside_a_target_is_an_argument_of_it(name: str) -> None:
    for key, node in nodes(read(name)):
        settings = {
            name: value
            for name, value in node.items()
            if name != "defaults" and value != "???"  # left to the user
        }
        checked = plan(settings, object, key, {}, complete=False)

        assert checked.faults == []
        assert checked.target is not None


def test_without_arguments_lenet5_learns_digits(compose: Compose) -> None:
    config = compose()

    assert config["name"] == "lenet5-digits"
    assert config["data"][TARGET] == "dltrain.data.digits.Digits"
    assert config["model"][TARGET] == "dltrain.models.lenet.LeNet5"
    assert config["task"][TARGET] == "dltrain.tasks.classification.Classification"


def test_a_config_is_plain_and_whole(compose: Compose) -> None:
    config = compose("data=mnist")

    assert "hydra" not in config
    assert yaml.safe_load(yaml.safe_dump(config)) == config
    assert "${" not in yaml.safe_dump(config)
    assert "???" not in yaml.safe_dump(config)


def test_the_environment_says_where_data_lies_and_the_command_line_wins(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLTRAIN_DATA", raising=False)
    assert compose("data=mnist")["data"]["root"] == "~/.cache/dltrain"
    monkeypatch.setenv("DLTRAIN_DATA", "/from/the/environment")
    assert compose("data=mnist")["data"]["root"] == "/from/the/environment"
    assert compose("data=mnist", "data.root=/typed")["data"]["root"] == "/typed"


def test_data_choose_the_task_and_the_command_line_another(compose: Compose) -> None:
    regression = "dltrain.tasks.regression.Regression"
    classification = "dltrain.tasks.classification.Classification"

    assert compose("data=line")["task"][TARGET] == regression
    assert compose("data=digits")["task"][TARGET] == classification
    assert compose("data=digits", "task=regression")["task"][TARGET] == regression
    assert compose("task=classification", "data=line")["task"][TARGET] == classification


def test_data_choose_what_is_shown_and_the_command_line_something_else(compose: Compose) -> None:
    text = {"tensorboard", "figures", "throughput", "projector"}
    reviews = ("model=lstm", "data=toy_reviews")

    assert set(compose(*reviews)["callbacks"]) == text
    assert set(compose("callbacks=[text,early_stopping]", *reviews)["callbacks"]) == {
        *text, "early_stopping",
    }  # fmt: skip
    assert compose(*reviews, "callbacks=none")["callbacks"] == {}
    assert "gradient_by_time" in compose("model=lstm", "data=adding")["callbacks"]


def test_data_win_over_the_trainer_and_the_command_line_over_both(compose: Compose) -> None:
    assert compose("data=mnist")["trainer"]["epochs"] == 10
    assert compose("data=digits")["trainer"]["epochs"] == 40
    assert compose("data=digits", "trainer=default")["trainer"]["epochs"] == 40
    assert compose("trainer.epochs=3", "data=digits")["trainer"]["epochs"] == 3


def test_a_model_chooses_its_optimizer_unless_another_is_typed(compose: Compose) -> None:
    assert compose("model=linreg")["optimizer"][TARGET] == "torch.optim.SGD"
    assert compose("optimizer=adamw", "model=linreg")["optimizer"][TARGET] == "torch.optim.AdamW"


def test_a_regularizer_sets_the_models_value_unless_one_is_typed(compose: Compose) -> None:
    assert compose("model=mlp", "regularizer=[l2,dropout]")["model"]["dropout"] == 0.5
    typed = compose("model.dropout=0.1", "model=mlp", "regularizer=dropout")
    assert typed["model"]["dropout"] == 0.1


def test_regularizers_and_callbacks_compose_as_lists(compose: Compose) -> None:
    config = compose("regularizer=[l1,l2,max_norm]", "callbacks=[default,early_stopping]")

    assert set(config["regularizer"]) == {"l1", "l2"}
    assert set(config["modifiers"]) == {"max_norm"}
    assert set(config["callbacks"]) == {"tensorboard", "figures", "early_stopping"}
    assert compose("regularizer=none", "callbacks=none")["regularizer"] == {}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("experiment/")])
def test_a_recipe_wins_over_the_groups_and_loses_to_the_command_line(
    name: str, compose: Compose
) -> None:
    choice = name.replace("/", "=")
    recipe = read(name)

    plain, typed = compose(choice), compose("optimizer.lr=0.5", "optimizer=sgd", choice)

    assert plain["optimizer"]["lr"] == recipe["optimizer"]["lr"]
    assert plain["data"]["validation"] == recipe["data"]["validation"]
    own = {name for name, value in typed["optimizer"].items() if isinstance(value, dict)}
    common = {name: value for name, value in typed["optimizer"].items() if name not in own}
    decay = recipe["optimizer"].get("weight_decay", 0.0)
    assert common == {TARGET: "torch.optim.SGD", "lr": 0.5, "weight_decay": decay}
    assert f"dltrain {choice}" in (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder: a model that sets a task, a recipe that sets another, another sgd."""
    files = {
        "model/mine.yaml": """\
# @package _global_
# A model with a task of its own.
defaults:
  - override /task@_global_.task: regression
  - override /optimizer: sgd

model:
  _target_: dltrain.models.mlp.MLP
  hidden: [7]
""",
        "optimizer/sgd.yaml": "# Mine.\n_target_: torch.optim.SGD\nlr: 0.77\n",
        "experiment/mine.yaml": """\
# @package _global_
# A recipe with a task of its own.
defaults:
  - override /model: mine
  - override /task@_global_.task: classification
  - override /optimizer: adamw

model:
  hidden: [9]
""",
    }
    for name, text in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("typed", "task", "optimizer", "hidden"),
    [
        (["model=mine"], "Regression", {"_target_": "torch.optim.SGD", "lr": 0.77}, [7]),
        (["experiment=mine"], "Classification", {"_target_": "torch.optim.AdamW"}, [9]),
        (
            ["experiment=mine", "task=regression", "optimizer=sgd", "model.hidden=[3]"],
            "Regression",
            {"_target_": "torch.optim.SGD", "lr": 0.77},
            [3],
        ),
    ],
    ids=["the model's over the data's", "the recipe's over the model's", "what is typed over all"],
)
def test_the_order_of_choices_holds_for_files_of_ones_own(
    typed: list[str], task: str, optimizer: dict[str, Any], hidden: list[int], own: Path, cli: Cli
) -> None:
    done = cli("--config-dir", str(own), *typed, "--cfg", "job")

    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["task"][TARGET].rpartition(".")[2] == task
    assert optimizer.items() <= config["optimizer"].items()
    assert config["model"]["hidden"] == hidden
