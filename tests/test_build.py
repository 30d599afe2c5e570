"""Building from a config: everything that can be known to be wrong is said at once, before."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.build import CONTRACTS, OWN_PACKAGES, build, plan
from dltrain.config.refusals import refused
from dltrain.contracts.attack import Attack
from dltrain.contracts.data import Augment, DataSpec, Field, Reader, Source
from dltrain.contracts.parallel import Parallel
from dltrain.contracts.run import Callback, Modifier, Plan, Regularizer, Schedule
from dltrain.contracts.task import Task
from dltrain.core.settings import Settings
from dltrain.errors import ConfigError
from tests.conftest import Compose

HERE = __name__
MLP = "dltrain.models.mlp.MLP"
SPEC = DataSpec(
    {
        "input": Field((1, 8, 8), "image", "input", mean=(0.5,), std=(0.25,)),
        "target": Field((), "class", "target", size=10),
    }
)


TEXTS = DataSpec({"input": Field((None,), "tokens", "input", size=7, fill=3)})


class Part:
    """What the slots of these tests ask for."""


class Typed(Part):
    def __init__(
        self,
        number: float = 0.0,
        integer: int = 0,
        switch: bool = False,
        text: str = "",
        folder: Path | None = None,
        choice: Literal["one", 2] = "one",
        maybe: float | None = None,
        rate: float | Tensor = 0.1,
        pair: tuple[float, float] = (0.0, 0.0),
        numbers: Sequence[float] = (),
        table: Mapping[str, float] | None = None,
        anything: Any = None,
    ) -> None:
        self.given = {**vars(), "self": None}


class Outer(Part):
    def __init__(self, inner: Typed, other: Typed | None = None) -> None:
        self.inner, self.other = inner, other


class Parent(Part):
    def __init__(self, depth: int, color: str = "red") -> None:
        self.depth, self.color = depth, color


class Child(Parent):
    def __init__(self, width: int = 1, **others: Any) -> None:
        super().__init__(**others)
        self.width = width


class Silent(Part):
    """Has no constructor at all, hence no arguments."""


class Collecting(Part):
    """Takes any argument, and keeps it."""

    def __init__(self, **options: Any) -> None:
        self.options = options


class Unfinished(Part, ABC):
    @abstractmethod
    def work(self) -> None: ...


class Refusing(Part):
    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")


class Initialized(nn.Module):
    """A network of a user's, whose own settings have the names of things the data knows."""

    def __init__(
        self, input_shape: Sequence[int], outputs: int, std: float = 0.02, mean: float = 0.0
    ) -> None:
        super().__init__()
        self.std, self.mean = std, mean
        self.layer = nn.Linear(input_shape[-1], outputs)


class Sized(Part):
    def __init__(self, input_shape: Sequence[int], outputs: int, pad_index: int = -1) -> None:
        self.outputs = outputs


class Worded(Part):
    def __init__(self, vocabulary_size: int, pad_index: int) -> None: ...


class Naming(Part):
    """Asks by name for what only the spec tells."""

    def __init__(self, class_names: Sequence[str]) -> None: ...


class Told(Part):
    def __init__(self, data: DataSpec) -> None:
        self.data = data


class MaybeTold(Part):
    def __init__(self, data: DataSpec | None = None) -> None:
        self.data = data


class Broken(Part):
    def __init__(self) -> None:
        raise TypeError("a bug of the class")


def node(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name if "." in name else f"{HERE}.{name}", **arguments}


def faults(
    config: Any, kind: type[Any] = Part, /, spec: DataSpec | None = None, **given: Any
) -> dict[str, str]:
    """Each fault's message by its key."""
    found = plan(config, kind, "slot", given, spec=spec).faults
    return {fault.key: f"{fault.problem} {fault.hint}".strip() for fault in found}


def test_a_good_node_becomes_its_object() -> None:
    model = plan(node(MLP, hidden=[5]), nn.Module, "model", spec=SPEC).make()

    assert [tuple(p.shape) for p in model.parameters()] == [(5, 64), (5,), (10, 5), (10,)]


def test_an_unknown_argument_is_told_with_the_nearest_right_one() -> None:
    found = faults(node(MLP, activaton="relu"), nn.Module, SPEC)

    assert list(found) == ["slot.activaton"]
    assert "MLP has no such argument" in found["slot.activaton"]
    assert "'slot.activation'" in found["slot.activaton"]


def test_an_abbreviation_is_found_from_the_words_it_is_made_of() -> None:
    found = faults(node("torch.optim.SGD", learning_rate=1.0), torch.optim.Optimizer, params=[])

    assert "'slot.lr'" in found["slot.learning_rate"]


def test_an_unknown_argument_like_no_other_is_told_with_all_that_there_are() -> None:
    found = faults(node("Parent", zzz=1, depth=1))

    assert "It takes color, depth." in found["slot.zzz"]


def test_what_is_given_is_not_offered_as_an_argument() -> None:
    found = faults(node("Parent", zzz=1), depth=3)

    assert "It takes color." in found["slot.zzz"]


def test_a_missing_argument_is_named() -> None:
    found = faults(node("Parent"))

    assert "Parent needs 'depth'" in found["slot"]


def test_an_argument_left_open_in_the_file_must_be_given() -> None:
    assert "must be given (an integer)" in faults(node("Parent", depth="???"))["slot.depth"]


@pytest.mark.parametrize(
    ("argument", "good", "bad", "expected"),
    [
        ("number", [1, 0.5, -3, 1e400], ["1", True, None, [1.0]], "expected a number"),
        ("integer", [0, -3], [1.5, 2.0, True, "3", None], "expected an integer"),
        ("switch", [True, False], [0, 1, "yes", None], "expected true or false"),
        ("text", ["", "a"], [1, None, ["a"]], "expected text"),
        ("folder", ["/data", None], [3, ["a"]], "expected a path or null"),
        ("choice", ["one", 2], ["two", "2", 1, 2.0, None], "expected one of 'one', 2"),
        ("maybe", [None, 1, 0.5], ["none", False, [1]], "expected a number or null"),
        ("rate", [0.1, 3], ["0.1", True, None, [1.0]], "expected a number"),
        ("pair", [[0.9, 1], (1, 2)], [[0.9], [1, 2, 3], 0.9, ["a", 1]], "expected a list"),
        ("numbers", [[], [1, 2.5]], [3, "12", ["a"], None], "expected a list of numbers"),
        ("table", [{}, {"a": 1}, None], [3, "a", [1], {"a": "b"}], "a mapping to numbers or null"),
        ("anything", [None, 3, "a", [1], {"a": 1}], [], ""),
    ],
)
def test_a_value_is_checked_by_its_annotation(
    argument: str, good: list[Any], bad: list[Any], expected: str
) -> None:
    for value in good:
        assert faults(node("Typed", **{argument: value})) == {}, value
    for value in bad:
        found = faults(node("Typed", **{argument: value}))
        assert list(found) == [f"slot.{argument}"], value
        assert expected in found[f"slot.{argument}"]


def test_a_wrong_value_is_shown_as_the_file_spells_it() -> None:
    assert "got null" in faults(node("Typed", switch=None))["slot.switch"]
    assert "got true" in faults(node("Typed", integer=True))["slot.integer"]


def test_a_target_of_another_kind_is_refused() -> None:
    found = faults(node("torch.nn.Linear", in_features=1, out_features=1), torch.optim.Optimizer)

    assert "torch.nn.Linear is no" in found["slot._target_"]


def test_a_function_is_no_target() -> None:
    assert "is no object" in faults(node("os.system", command="true"), object)["slot._target_"]


def test_an_abstract_target_is_refused() -> None:
    assert "abstract" in faults(node("Unfinished"))["slot._target_"]
    assert "abstract" in faults(node("dltrain.contracts.run.Schedule"), Schedule)["slot._target_"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package_here.Net", "no module 'no_such_package_here'"),
        ("dltrain.models.lenett.LeNet5", "no module 'dltrain.models.lenett'"),
        ("dltrain.models.vision.lenet.LeNet", "Did you mean 'LeNet5'?"),
        ("LeNet5", "must name a class"),
        (5, "must name a class"),
        (None, "must name a class"),
    ],
)
def test_a_target_that_is_not_there_is_told(target: Any, message: str) -> None:
    assert message in faults({"_target_": target}, nn.Module)["slot._target_"]


@pytest.mark.parametrize("config", [None, "mlp", [1], {}, {"hidden": [1]}])
def test_a_node_that_names_no_target_is_told(config: Any) -> None:
    assert "must name a class" in faults(config, nn.Module)["slot._target_"]


def test_a_module_that_itself_lacks_a_module_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import certainly_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="certainly_not_installed"):
        plan(node("needs_more.Net"), nn.Module, "model", {})


def test_a_package_that_is_not_allowed_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strangers.py").write_text("raise SystemExit('ran a stranger’s code')\n")
    monkeypatch.syspath_prepend(tmp_path)
    nested = node(MLP, hidden=node("strangers.Sizes"))
    for config in (node("strangers.Net"), nested):
        checked = plan(config, nn.Module, "model", {}, frozenset({"dltrain", "torch"}), SPEC)

        assert "may not import" in checked.faults[0].problem
        assert "DLTRAIN_PACKAGES=strangers" in checked.faults[0].hint
        assert "strangers" not in sys.modules
        with pytest.raises(ConfigError):
            checked.make()


POPEN = (
    "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.Popen",
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
)
LINEAR = "torch.nn.Linear"
LINEAR_SIZES = {"in_features": 1, "out_features": 1}
MAY_NAME = "It may name classes of dltrain, torch.nn, torch.optim, torchvision.models"


def read(config: Any, kind: type[Any] = nn.Module, *packages: str) -> str:
    """What is said to ``config`` where its user has not typed it; its first fault."""
    found = plan(config, kind, "model", {}, OWN_PACKAGES | set(packages), SPEC).faults
    assert all("\n" not in str(fault) for fault in found)
    return str(found[0]) if found else ""


def layer(**arguments: Any) -> dict[str, Any]:
    return node("torch.nn.TransformerEncoderLayer", d_model=4, nhead=2, **arguments)


def test_the_contracts_are_those_that_there_are() -> None:
    kinds = (
        *(nn.Module, torch.optim.Optimizer, Settings, Task, Source, Reader, Augment, Plan),
        *(Schedule, Regularizer, Modifier, Callback, Attack, Parallel),
    )

    named = {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    assert named == CONTRACTS


@pytest.mark.parametrize("target", POPEN)
def test_a_strangers_config_starts_no_process(target: str) -> None:
    evil = {"_target_": target, "args": ["touch", "PWNED"]}
    for config in (
        evil,
        node(LINEAR, **LINEAR_SIZES, device=evil),
        node("torch.nn.ModuleList", modules=[evil]),
        node("torch.nn.TransformerEncoder", num_layers=1, encoder_layer=layer(device=evil)),
        node(MLP, hidden=[5], activation=evil),
        node("torchvision.models.resnet.ResNet", block=evil, layers=[1, 1, 1, 1]),
    ):
        assert "_target_: " + target + " comes from a part of torch" in read(config)
        assert MAY_NAME in read(config)


def test_a_slot_without_a_contract_takes_no_class_in_a_strangers_config() -> None:
    inner = node(LINEAR, **LINEAR_SIZES)
    for config, key in (
        (node(LINEAR, **LINEAR_SIZES, device=inner), "model.device"),
        (node("torch.nn.ModuleList", modules=[inner]), "model.modules[0]"),
        (node(MLP, hidden=inner), "model.hidden"),
    ):
        assert read(config).startswith(f"{key}: takes no class in the config of a run's folder.")
        assert "Give a plain value" in read(config)
        # Who types it is free to.
        assert "takes no class" not in str(plan(config, nn.Module, "model", spec=SPEC).faults)


def test_a_slot_with_a_contract_takes_a_class_in_a_strangers_config() -> None:
    assert read(node("torch.nn.TransformerEncoder", num_layers=1, encoder_layer=layer())) == ""
    for data, augment in (
        ("dltrain.data.images.digits.Digits", "dltrain.data.images.source.ImageAugment"),
        ("dltrain.data.tables.line.Line", "dltrain.data.tables.augment.VectorAugment"),
        ("dltrain.data.text.toy_reviews.ToyReviews", "dltrain.data.text.augment.WordAugment"),
    ):
        assert read(node(data, augment=node(augment)), Source) == ""


@pytest.mark.parametrize(
    "target",
    [
        "torch.jit.ScriptModule",
        "torch.fx.GraphModule",
        "torch.package.PackageImporter",
        "torch.export.unflatten.UnflattenedModule",
        "torch.utils.bottleneck.__main__.Net",
        "torch.distributed.run.Net",
        "torch.hub.Net",
        "torch.Tensor",
        "torch.nn.modules._functions.Net",
        "torchvision.datasets.folder.Net",
        "dltrain.__main__.Net",
    ],
)
def test_of_torch_only_what_is_public_and_a_part_of_networks(target: str) -> None:
    module = target.rpartition(".")[0]
    before = module in sys.modules

    assert "_target_" in read(node(target))
    assert MAY_NAME in read(node(target))
    assert (module in sys.modules) == before, "it is refused before it is imported"


def test_a_class_is_checked_by_its_home_and_not_by_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.models.feature_extraction as extraction

    (tmp_path / "mine_by_name.py").write_text(
        "from subprocess import Popen\nfrom torch.ao.quantization import QuantStub\n"
        "from torch.nn import Identity\nclass Net(Identity): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    # By way of torch.nn, and of torchvision: whose home is elsewhere, or whose parents'.
    assert "of torch.ao" in read(node("torch.nn.quantized.FloatFunctional"))
    assert extraction.DualGraphModule.__module__ == extraction.__name__
    assert "of torch.fx" in read(node(f"{extraction.__name__}.DualGraphModule"))
    # By way of a package that is trusted.
    by_name = "mine_by_name"
    assert "of torch.ao" in read(node(f"{by_name}.QuantStub"), nn.Module, by_name)
    assert "is no Module" in read(node(f"{by_name}.Popen"), nn.Module, by_name)
    assert read(node(f"{by_name}.Identity"), nn.Module, by_name) == ""
    assert read(node(f"{by_name}.Net"), nn.Module, by_name) == ""


def test_what_is_no_contract_is_named_nowhere() -> None:
    for target in (
        "dltrain.runs.folder.RunFolder",
        "dltrain.data.download.Remote",
        "torch.nn.Parameter",
    ):
        assert "is no Module" in read(node(target))


def test_a_users_own_classes_are_trusted_with_what_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_nested.py").write_text(
        "from __future__ import annotations\n"
        "from subprocess import Popen\n"
        "from torch import nn\n"
        "class Size:\n    pass\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, inner=None, blocks: list[nn.Module] | None = None,\n"
        "                 size: Size | None = None):\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = "mine_nested"
    size, linear = node(f"{mine}.Size"), node(LINEAR, **LINEAR_SIZES)
    net = f"{mine}.Net"

    for good in (
        node(net, size=size, inner=size, blocks=[node(net), linear]),
        node(net, inner=node(MLP, hidden=[5])),
        node(LINEAR, **LINEAR_SIZES),
    ):
        assert read(good, nn.Module, mine) == ""
    # Their own do not open torch's to them, nor to others.
    assert "takes no class" in read(node(LINEAR, **LINEAR_SIZES, device=size), nn.Module, mine)
    assert "part of torch" in read(node(net, inner=node(POPEN[0])), nn.Module, mine)
    for foreign in (f"{mine}.Popen", "dltrain.runs.folder.RunFolder", "torch.nn.Parameter"):
        assert "_target_" in read(node(net, inner=node(foreign)), nn.Module, mine)
    # They are held to the slot's contract.
    assert "is no Module" in read(node(f"{mine}.Size"), nn.Module, mine)


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "builtins.object", "antigravity.Model", "this.Model"],
)
def test_pythons_own_library_is_refused_without_a_way_round(target: str) -> None:
    before = "antigravity" in sys.modules, "this" in sys.modules

    assert "may not import" in read(node(target))
    assert MAY_NAME in read(node(target))
    assert "DLTRAIN_PACKAGES" not in read(node(target))
    assert ("antigravity" in sys.modules, "this" in sys.modules) == before


def test_the_way_to_trust_a_package_keeps_those_that_are_trusted() -> None:
    assert read(node("theirs.Net"), nn.Module, "mine").endswith("DLTRAIN_PACKAGES=mine,theirs.")


@pytest.mark.parametrize("target", ["a b.Net", "$(touch PWNED).Net", "a\nb.Net", ".Net", "a..Net"])
def test_a_name_that_is_no_name_is_not_repeated_as_advice(target: str) -> None:
    assert "must name a class" in read(node(target) | {"_target_": target})
    assert "DLTRAIN_PACKAGES" not in read(node(target) | {"_target_": target})


def test_all_faults_are_told_at_once_and_nothing_is_made() -> None:
    config = node("Typed", number="a", integr=1, choice="three", maybe=[1])

    with pytest.raises(ConfigError) as raised:
        build(config, Part, "slot")

    keys = {fault.key for fault in raised.value.faults}
    assert keys == {"slot.number", "slot.integr", "slot.choice", "slot.maybe"}
    assert len(str(raised.value).splitlines()) == 4


def test_what_is_given_fills_only_what_the_config_leaves_out() -> None:
    made = build(node("Parent", color="blue"), Parent, "slot", depth=3, color="green", other=1)

    assert (made.depth, made.color) == (3, "blue")


def test_arguments_of_parents_are_known_through_a_constructor_that_hands_them_on() -> None:
    made = build(node("Child", width=2, depth=5), Child, "slot")

    assert (made.width, made.depth, made.color) == (2, 5, "red")
    assert "'depth'" in faults(node("Child"))["slot"]
    assert "expected an integer" in faults(node("Child", depth="deep"))["slot.depth"]
    assert "'slot.color'" in faults(node("Child", depth=1, colr="red"))["slot.colr"]


def test_a_class_without_a_constructor_takes_no_arguments() -> None:
    assert isinstance(build(node("Silent"), Part, "slot"), Silent)
    assert "It takes no arguments." in faults(node("Silent", size=1))["slot.size"]


def test_a_class_that_keeps_any_argument_gets_them_all() -> None:
    made = build(node("Collecting", size=1, name="a"), Collecting, "slot")

    assert made.options == {"size": 1, "name": "a"}


def test_nested_nodes_are_built_and_told_by_their_whole_key() -> None:
    made = build(node("Outer", inner=node("Typed", number=2), other=None), Outer, "slot")
    assert isinstance(made.inner, Typed)
    assert made.inner.given["number"] == 2
    assert made.other is None

    found = faults(node("Outer", inner=node("Typed", numbr=2), other=node("Parent", depth=1)))
    assert "'slot.inner.number'" in found["slot.inner.numbr"]
    assert found["slot.other._target_"].endswith("Parent is no Typed.")


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_an_argument_with_a_default_is_the_users_whatever_the_data_calls_its_own(
    data: str, compose: Compose
) -> None:
    config = compose(f"data={data}") | {"model": node("Initialized")}

    outline = build(config["data"], Source, "data").outline()
    assert outline.input.mean
    model = plan(config["model"], nn.Module, "model", spec=outline).make()

    assert (model.std, model.mean) == (0.02, 0.0)


def test_four_names_are_filled_from_the_data_and_nothing_else_is() -> None:
    of_images = plan(node("Sized"), Part, "slot", spec=SPEC)
    of_texts = plan(node("Worded"), Part, "slot", spec=TEXTS)

    assert of_images.arguments == {"input_shape": (1, 8, 8), "outputs": 10}
    assert of_texts.arguments == {"vocabulary_size": 7, "pad_index": 3}
    assert faults(node("Naming"), spec=SPEC) == {
        "slot": "Naming needs 'class_names', which this data does not give."
    }


def test_what_the_config_says_is_not_filled() -> None:
    assert plan(node("Sized", outputs=3), Part, "slot", spec=SPEC).make().outputs == 3


@pytest.mark.parametrize("name", ["Told", "MaybeTold"])
def test_all_that_is_known_of_the_data_is_given_where_the_annotation_asks(name: str) -> None:
    found = plan(node(name), Part, "slot", spec=SPEC)

    assert found.make().data is SPEC
    assert found.takes_spec
    assert not plan(node("Sized"), Part, "slot", spec=SPEC).takes_spec


def test_what_the_data_tells_reaches_nested_nodes_and_what_is_given_does_not() -> None:
    inner = [node("Told"), node("Sized")]
    found = plan(node("Collecting", one=inner[0], many=inner), Part, "slot", spec=SPEC)

    made = found.make()
    assert made.options["one"].data is SPEC
    assert made.options["many"][1].outputs == 10
    assert found.takes_spec

    nested = node("Collecting", inner=node("Parent"))
    assert "Parent needs 'depth'" in faults(nested, depth=7)["slot.inner"]


def test_what_the_data_has_yet_to_tell_is_waited_for() -> None:
    outline = DataSpec({"input": Field((None,), "tokens", "input", fill=0)}, complete=False)

    for name, waits in (("Worded", True), ("Told", False)):
        found = plan(node(name), Part, "slot", spec=outline)
        assert (found.faults, found.waits) == ([], waits)
    # That they are texts is known already.
    assert "needs 'input_shape'" in faults(node("Sized"), spec=outline)["slot"]
    # Where nothing is known nothing is missed, if it is said so.
    for complete, known in ((True, ["slot"]), (False, [])):
        found = plan(node("Told"), Part, "slot", complete=complete)
        assert [fault.key for fault in found.faults] == known
        assert found.waits


def test_what_a_constructor_refuses_by_value_is_the_configs_fault() -> None:
    with pytest.raises(ConfigError) as raised:
        build(node("Refusing", size=0), Part, "slot")
    assert str(raised.value) == "slot.size must be at least 1, got 0"

    with pytest.raises(ConfigError, match=r"slot\.inner\.size must be"):
        build(node("Collecting", inner=node("Refusing", size=0)), Part, "slot")


@pytest.mark.parametrize(
    ("message", "key", "problem"),
    [
        ("text: there is no such column", "data.text", "there is no such column"),
        ("test must be below 1", "data.test", "must be below 1"),
        ("augment.crop=9 is too large", "data.augment", ".crop=9 is too large"),
        ("text.csv is empty", "data", "text.csv is empty"),
        ("test/train.de, line 3 is empty", "data", "test/train.de, line 3 is empty"),
        ("text one/a.txt is empty", "data", "text one/a.txt is empty"),
        ("root is no folder", "data", "root is no folder"),
    ],
)
def test_a_file_that_is_called_as_an_argument_is_a_file(
    message: str, key: str, problem: str
) -> None:
    given = {"text": None, "test": 0.2, "augment": {"crop": 9}, "root": None}
    found = refused("data", {**given, "path": "text one", "files": "root"}, ValueError(message))
    assert (found.key, found.problem) == (key, problem)


def test_a_bug_in_a_constructor_keeps_its_traceback() -> None:
    with pytest.raises(TypeError, match="a bug of the class"):
        build(node("Broken"), Part, "slot")


def test_planning_constructs_nothing() -> None:
    checked = plan(node("Broken"), Part, "slot", {})

    assert checked.faults == []


def test_a_data_set_is_checked_without_its_files() -> None:
    source = build(node("dltrain.data.images.mnist.Mnist", root="/nowhere/at/all"), Source, "data")

    assert source.outline().input.shape == (1, 28, 28)
