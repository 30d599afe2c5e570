"""The config tree: every file composes, builds and runs, and the later choice wins."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain.cli import dispatch
from dltrain.commands.help import GROUPS
from dltrain.config import compose as composition
from dltrain.config.build import OWN_PACKAGES, TARGET, plan
from dltrain.contracts.data import Source
from dltrain.errors import ConfigError
from dltrain.tasks.autoencoder import Reconstruction
from dltrain.tasks.boltzmann import BoltzmannMachine
from dltrain.tasks.gan import AdversarialGame
from dltrain.tasks.vae import Variational
from tests.asking import answers, assembled
from tests.conftest import REPOSITORY, Cli, Compose, two_inputs
from tests.streams import read_what_is_not_known

CONFIGS = REPOSITORY / "configs"
FILES = sorted(path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml"))
NAMES = [file.as_posix() for file in FILES]
# Data sets of the user's own files; test_data_configs makes such files and runs these.
OWN_FILES = {
    *("data/csv", "data/hub", "data/hub_table", "data/image_folder"),
    # tests/test_data_shards.py and test_data_table_shards.py make such files.
    *("data/shards", "data/table_shards"),
    *("data/imdb", "data/hub_text", "data/text_csv", "data/trec"),
    *("experiment/trec_cnn", "experiment/sms_spam"),
    # tests/test_translation_runs.py makes such files.
    *("data/parallel", "task/translation", "model/seq2seq", "model/transformer_seq2seq"),
    *("experiment/multi30k_gru", "experiment/multi30k_transformer", "experiment/tatoeba_en_zh"),
    # tests/test_language_runs.py trains these.
    *("data/text_file", "model/transformer", "task/language_model", "callbacks/text_samples"),
    *("experiment/tinyshakespeare", "experiment/tinyshakespeare_best", "experiment/tang_poems"),
    *("experiment/alexnet_imagenet", "experiment/chnsenticorp", "experiment/hymenoptera"),
    "experiment/detect_cells",
    *("data/voc", "data/coco", "data/yolo_txt", "data/augment/boxes"),
    *("model/yolo", "model/ssdlite", "model/fasterrcnn", "model/retinanet", "model/fcos"),
    *("task/detection", "task/torchvision_detection"),
    # tests/test_series_runs.py trains these.
    *("data/series", "task/forecasting", "model/linear", "experiment/etth1"),
    # tests/test_segmentation.py builds these.
    *("data/image_masks", "model/unet", "model/segnet", "model/fcn_resnet", "model/deeplab"),
    *("task/segmentation", "experiment/unet_cells", "experiment/unet_camvid"),
    *("task/multilabel", "task/distillation", "experiment/lenet5_distilled"),
    *("data/style", "model/style", "task/style_transfer", "model/fast_style", "task/fast_style"),
    # tests/test_audio_runs.py builds these.
    *("data/audio_folder", "data/audio_transcripts", "data/audio_strings", "data/augment/sounds"),
    *("model/audio_cnn", "model/ctc", "task/ctc"),
    *("experiment/fsdd", "experiment/yesno", "experiment/digit_strings"),
    *("model/adain", "task/adaptive_style"),
    # tests/test_recommending.py trains these.
    *("data/ratings", "model/matrix_factorization", "model/neumf", "task/rating", "task/ranking"),
    *("experiment/movielens", "experiment/movielens_ranking", "callbacks/recommender_baseline"),
    *("experiment/imdb_best", "experiment/imdb_bilstm", "experiment/imdb_rnn"),
    # tests/test_environments.py builds these.
    *("data/gym", "model/dqn", "model/ppo", "model/reinforce"),
    *("task/dqn", "task/ppo", "task/reinforce", "data/atari", "experiment/pong_dqn"),
    *("experiment/cartpole_dqn", "experiment/cartpole_ppo", "experiment/lunarlander_ppo"),
}
# What several data sets have in common; none of them by itself.
BASES = {name for name in NAMES if "/base/" in name}
# What the files of a group, or one file, need beside them, where the defaults do not go with it.
BLOCKS = "modifiers.activation_checkpointing.blocks=[features,classifier]"
COMPANY = {
    "data": ["model=mlp"],
    "data/augment/vectors": ["data=iris", "model=mlp"],
    "data/augment/words": ["data=toy_reviews", "model=lstm"],
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
    "model/text_cnn": ["data=adding"],
    "model/tabular": ["data=iris"],
    "regularizer/word_dropout": ["data=toy_reviews", "model=lstm"],
    "regularizer/adversarial": ["data=toy_reviews", "model=lstm"],
    "modifier/ema_generator": ["model=gan"],
    "modifier/activation_checkpointing": ["model=alexnet_small", "data=mnist", BLOCKS],
    "task/adversarial": ["model=gan"],
    "task/boltzmann": ["model=rbm"],
    "task/deep_belief": ["model=dbn"],
    "task/reconstruction": ["model=autoencoder"],
    "task/attack": ["task=adversarial_training"],
    "task/loss": ["data=diabetes", "model=mlp"],
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
        yield key, {name: value for name, value in config.items() if name != "defaults"}
    for name, value in config.items():
        yield from nodes(value, f"{key}.{name}".lstrip("."))


def read(name: str) -> Any:
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def settings_of(node: dict[str, Any]) -> dict[str, Any]:
    """What a file itself says of a node."""
    return {
        name: value
        for name, value in node.items()
        if value != "???"  # left to the user
        and not (isinstance(value, dict) and TARGET not in value)  # its target is in a base
    }


def test_every_group_has_files() -> None:
    assert {file.parts[0] for file in FILES} == {"train", *GROUPS}


@pytest.mark.parametrize("name", sorted({*NAMES} - OWN_FILES - BASES))
def test_every_file_composes_builds_and_its_network_runs(
    name: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "federated/flower":
        pytest.importorskip("flwr", reason="an extra that the constraints do not have")
    config = compose(*command_line(name))
    read_what_is_not_known(config["data"], monkeypatch)
    # As in a run folder that is resumed: what is built in needs nobody's trust.
    parts = assembled(config, OWN_PACKAGES)
    facts = parts.spec.facts()

    with torch.inference_mode():
        said = answers(parts.task.eval(), two_inputs(facts))

    # One score an image, or the image itself, not an output a class.
    shape = facts.get("input_shape")
    each = {
        **dict.fromkeys((BoltzmannMachine, Reconstruction, Variational), shape),
        AdversarialGame: (),
    }
    assert said.shape == (2, *each.get(type(parts.task), (facts["outputs"],)))
    assert bool(said.isfinite().all())


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
        checked = plan(settings_of(node), object, key, {}, complete=False)

        assert checked.faults == []
        assert checked.target is not None


@pytest.mark.parametrize("name", sorted(n for n in OWN_FILES if Path(n).parent == Path("data")))
def test_a_source_of_ones_own_files_needs_nobodys_trust(name: str) -> None:
    ((key, node), *_) = nodes(read(name))

    assert plan(settings_of(node), Source, key, {}, OWN_PACKAGES, complete=False).faults == []


def test_without_arguments_lenet5_learns_digits(compose: Compose) -> None:
    config = compose()

    assert config["name"] == "lenet5-digits"
    assert config["data"][TARGET] == "dltrain.data.images.digits.Digits"
    assert config["model"][TARGET] == "dltrain.models.vision.lenet.LeNet5"
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


def test_a_command_composed_once_is_what_hydra_hands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["model=lstm", "data=toy_reviews", "optimizer.lr=0.5"]
    jobs: list[composition.Job] = []
    monkeypatch.setattr("sys.argv", ["dltrain"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)

    composition.launch(typed, jobs.append)

    assert composition.is_plain(typed)
    assert [composition.job_of(typed)] == jobs
    assert not composition.is_plain([*typed, "hydra.job.env_set={A:1}"])
    with composition.folder_used(str(tmp_path)):
        assert not composition.is_plain(typed), "a file there may set what Hydra does"


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
    own.add("groups")
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


def test_all_files_of_a_group_are_packaged_alike() -> None:
    styles: dict[str, set[str]] = {}
    for file, name in zip(FILES, NAMES, strict=True):
        first = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        styles.setdefault(file.parent.as_posix(), set()).add(
            first if first.startswith("# @package") else "its own"
        )

    own = {".", "data/augment", "optimizer", "schedule", "trainer", "trainer/parallel"}
    own |= {"task", "task/attack", "task/loss", "federated"}
    assert styles == {
        group: {"its own" if group in own else "# @package _global_"} for group in styles
    }


@pytest.mark.parametrize(
    ("typed", "key", "file"),
    [
        (["data=mnist"], "data.augment.shift", "data/augment/images.yaml"),
        (["data=mnist"], "data.mean", "data/mnist.yaml"),
        (["data=digits"], "data.augment.shift", "data/digits.yaml"),
        (["data=digits"], "data.augment.flip", "data/augment/images.yaml"),
        (["data=imdb"], "data.max_length", "data/base/texts.yaml"),
        (["data=imdb"], "data.validation", "data/imdb.yaml"),
        (["data=hub_table"], "data.missing", "data/base/tables.yaml"),
        (["data=image_folder"], "data.fit", "data/base/images.yaml"),
        (["model=dcgan"], "callbacks.divergence.patience", "callbacks/divergence.yaml"),
        (["model=wgan_gp"], "callbacks.divergence.accuracy", "model/wgan_gp.yaml"),
        (["regularizer=[l1,l2]"], "regularizer.l2.strength", "regularizer/l2.yaml"),
        (["model=mlp"], "model.hidden", "model/mlp.yaml"),
        (["data=csv"], "data.target", "data/csv.yaml"),  # which must be given
    ],
)
def test_a_key_is_found_in_the_file_that_sets_it(typed: list[str], key: str, file: str) -> None:
    assert composition.defining_file(key, typed) == file


def test_a_key_that_must_be_given_is_told_with_the_page_that_explains_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dispatch(["data=csv", "model=mlp", "data.path=houses.csv"]) == 2
    said = "data.target: must be given (text). See dltrain help data=csv. (data/csv.yaml)"
    assert capsys.readouterr().err == f"dltrain: {said}\n"


def test_what_data_sets_share_is_no_data_set(cli: Cli) -> None:
    line = "dltrain data="
    done = cli("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert set(done.stdout.split()) == {
        f"data={path.stem}" for path in (CONFIGS / "data").glob("*.yaml")
    }

    done = cli("data=augment", "--cfg", "job")
    assert done.returncode == 2
    assert "there is no data/augment.yaml" in done.stderr
    assert "texts" not in done.stderr


def test_another_augmentation_can_be_chosen_for_data_of_its_kind(compose: Compose) -> None:
    augment = compose("data=digits", "data/augment=images")["data"]["augment"]
    assert augment == {**read("data/augment/images"), "shift": 0.5, "rotate": 10.0, "scale": 0.1}
    with pytest.raises(ConfigError, match="VectorAugment is no ImageAugment"):
        assembled(compose("data=digits", "data/augment=vectors", "data.augment.shift=0"))


# What a file says otherwise than its class, which keys, and why.
MEANT = [
    ("data/*", "root", "where files lie is for each machine to say"),
    ("data/*", "batch_size validation evaluation_batch_size", "as suits the size of the data"),
    ("data/*", "stratify", "one's own data is; the class draws as it did for runs of before"),
    ("data/toy_reviews", "vocabulary_size", "it has fewer than a hundred words"),
    (
        "model/alexnet_one_column",
        "channels groups response_norm init unit_biases",
        "the network of 2014; the class begins as that of 2012",
    ),
    (
        "model/alexnet_small",
        "channels kernels stride padding groups dense response_norm batch_norm init unit_biases",
        "a third network of that class",
    ),
    ("model/reinforce", "hidden", "a small policy learns from few episodes"),
    ("modifier/ema_generator", "groups", "of a GAN, the generator alone is used"),
    ("model/wgan_gp", "batch_norm", "a critic with a gradient penalty has none; a DCGAN's has"),
]


def whole(name: str) -> Any:
    """A file and the bases that it names."""
    content = read(name)
    for entry in reversed(content.get("defaults", [])):  # the last wins
        if isinstance(entry, str) and entry.startswith("base/"):
            content = {**content, "data": {**read(f"data/{entry}")["data"], **content["data"]}}
    return content


def defaults_of(target: type[Any]) -> dict[str, Any]:
    """A constructor's defaults, its parents' included where it hands the rest on to them."""
    found: dict[str, Any] = {}
    for owner in target.__mro__:
        if "__init__" in vars(owner):
            parameters = inspect.signature(owner.__init__).parameters.values()
            found = {p.name: p.default for p in parameters if p.default is not p.empty} | found
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


def own_settings(name: str) -> Iterator[tuple[str, Any, Any]]:
    """Each argument that a file gives to a class of ours: its name, its value, the default."""
    for key, node in nodes(whole(name)):
        target = plan(node, object, key, {}, complete=False).target
        assert target is not None
        if not target.__module__.startswith("dltrain."):
            continue  # torch's defaults are not ours to choose
        for argument, default in defaults_of(target).items():
            value = node.get(argument, "???")
            if value != "???" and not isinstance(value, dict):
                yield argument, value, list(default) if isinstance(default, tuple) else default


def test_a_file_says_what_its_class_says() -> None:
    different, used = [], set()
    for name in NAMES:
        for argument, value, default in own_settings(name):
            if value == default:
                continue
            meant = {
                (pattern, argument)
                for pattern, keys, _ in MEANT
                if fnmatch(name, pattern) and argument in keys.split()
            }
            used |= meant
            if not meant:
                different.append((name, argument, value, default))

    assert different == []
    assert used == {(pattern, key) for pattern, keys, _ in MEANT for key in keys.split()}
