"""Build an object from a config node: ``{_target_: package.Class, argument: value, …}``.

Everything that can be known to be wrong is found before anything is constructed, and all of
it is reported at once: an unknown argument, a missing one, a value of the wrong type, a
target that is not of the kind its slot asks for.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dltrain.config.offered import named, offered
from dltrain.config.paths import located_arguments
from dltrain.config.refusals import refused, too_large
from dltrain.config.renamed import CLASSES, called_now
from dltrain.config.suggest import did_you_mean
from dltrain.config.values import expected, fits, shown, unusable, wrong_type
from dltrain.errors import NO_HOME, ConfigError, Fault, is_out_of_memory, is_without_home
from dltrain.files import kind_of

if TYPE_CHECKING:
    from dltrain.contracts.data import DataSpec

T = TypeVar("T")
TARGET = "_target_"
_NOTHING: Mapping[str, Any] = types.MappingProxyType({})
PUBLIC = {
    "dltrain": ("dltrain",),
    "torch": ("torch.nn", "torch.optim"),
    "torchvision": ("torchvision.models", "torchvision.ops"),
}
"""What anybody's config may import of these packages: the rest of torch starts processes,
unpickles and runs text as code, some of it as soon as it is imported."""
OWN_PACKAGES = frozenset(PUBLIC)
BESIDE = frozenset(
    {
        *("numpy", "scipy", "pandas", "pyarrow", "sklearn", "matplotlib", "PIL", "yaml", "hydra"),
        *("omegaconf", "rich", "tensorboard", "datasets", "tokenizers", "filelock", "fsspec"),
        *("pip", "setuptools", "pkg_resources", "joblib", "cloudpickle", "dill", "optuna", "wandb"),
        *("mlflow", "fastapi", "uvicorn", "onnx", "onnxruntime", "openpyxl", "submitit"),
        *("torchao",),
    }
)
"""What lies beside dltrain and holds no part of a run: no message says how to trust one of them."""
LIBRARIES = OWN_PACKAGES - {"dltrain"}
MAY_NAME = (
    f"It may name classes of {', '.join(home for homes in PUBLIC.values() for home in homes)}."
)
CONTRACTS = frozenset(
    {
        "torch.nn.modules.module.Module",
        "torch.optim.optimizer.Optimizer",
        "dltrain.core.settings.Settings",
        "dltrain.contracts.task.Task",
        "dltrain.contracts.attack.Attack",
        "dltrain.contracts.parallel.Parallel",
        *(f"dltrain.contracts.data.{name}" for name in ("Source", "Reader", "Augment")),
        *(
            f"dltrain.contracts.run.{name}"
            for name in ("Schedule", "Regularizer", "Modifier", "Callback", "Plan")
        ),
    }
)
"""What anybody's config may make, by name: importing them here would load torch for a query."""


@dataclass
class Plan(Generic[T]):
    """A checked construction: :meth:`make` calls it, unless there are faults."""

    key: str
    target: type[T] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    waits: bool = False
    """Whether an argument is still to come, with the data."""
    takes_spec: bool = False
    """Whether all that is known of the data is one of its arguments."""

    def make(self) -> T:
        """Construct the object.

        Raises :class:`ConfigError` with every fault found, or with what the constructor
        itself refused by a ``ValueError``.
        """
        if self.faults:
            raise ConfigError(self.faults)
        assert self.target is not None
        arguments = {name: _made(value) for name, value in self.arguments.items()}
        try:
            return self.target(**arguments)
        except ConfigError:
            raise
        except Exception as error:
            fault = self._fault_of(error)
            if fault is None:
                raise
            raise ConfigError([fault]) from error

    def _fault_of(self, error: Exception) -> Fault | None:
        """What of the config the constructor cannot take; None where the bug is its own."""
        assert self.target is not None
        if is_out_of_memory(error):
            return too_large(self.key, self.arguments, error)
        # A library refuses in its own ways; in a class of dltrain, all but a ValueError is a bug.
        if isinstance(error, ValueError) or _package(self.target.__module__) in LIBRARIES:
            return refused(self.key, self.arguments, error)
        if isinstance(error, RuntimeError) and is_without_home(error):
            return Fault(self.key, NO_HOME)
        return None


def build(config: Mapping[str, Any], kind: type[T], key: str, **given: Any) -> T:
    """Check and construct in one go; see :func:`plan`."""
    return plan(config, kind, key, given).make()


def plan(
    config: Mapping[str, Any],
    kind: type[T],
    key: str,
    given: Mapping[str, Any] = _NOTHING,
    packages: frozenset[str] | None = None,
    spec: DataSpec | None = None,
    complete: bool = True,
    initial: bool = True,
) -> Plan[T]:
    """Check the node ``config``, found at ``key``, without constructing anything.

    ``kind`` is the contract its target must subclass. Constructor arguments that the config leaves
    out are filled: by name from ``given``, what the run itself has to give; and from ``spec``, what
    the data is. A parameter that is annotated ``DataSpec`` is given all of it; ``input_shape``,
    ``outputs``, ``vocabulary_size`` and ``pad_index`` are filled by name where they have no
    default, in nested nodes too. Nothing else is: a default is a default.

    ``packages`` limits where a target may come from (None: anywhere): a config that its user
    has not typed can then name nothing but a contract's classes, where a contract is asked for:
    from the :data:`PUBLIC` parts of our own packages, and from others with all they take. It is a
    run's, whose weights lie in its checkpoint: arguments that are ``InitialWeights`` are left out,
    as they are without ``initial``.
    What ``spec`` does not know yet is not missed; with ``complete=False`` nothing is.
    """
    filling = _Filling(spec, packages, complete, initial and packages is None)
    return _plan(config, kind, key, given, filling, any_kind=packages is None)


@dataclass(frozen=True)
class _Filling:
    """What is the same for a node and all that are nested in it."""

    spec: DataSpec | None
    packages: frozenset[str] | None
    complete: bool
    initial: bool

    def fact(self, parameter: inspect.Parameter, annotation: Any) -> Any:
        """What the data has for a parameter; :data:`_NOTHING` where it has nothing."""
        if self.spec is None:
            return _NOTHING
        if type(self.spec) in (annotation, *typing.get_args(annotation)):
            return self.spec
        if parameter.default is not inspect.Parameter.empty:
            return _NOTHING
        return self.spec.facts().get(parameter.name, _NOTHING)

    def why(self, name: str) -> str:
        """What keeps the data from telling a fact, where that is known."""
        fields = self.spec.fields if self.spec is not None else {}
        inputs = [other for other, field in fields.items() if field.role == "input"]
        several = len(inputs) > 1 and name != "outputs"
        return f": it has several inputs ({', '.join(inputs)})" if several else ""

    def misses(self, name: str) -> bool:
        """Whether an argument that nobody gives is a fault already."""
        return self.complete and (self.spec is None or name not in self.spec.pending())


def _plan(
    config: Mapping[str, Any],
    kind: type[T],
    key: str,
    given: Mapping[str, Any],
    filling: _Filling,
    any_kind: bool,
) -> Plan[T]:
    """See :func:`plan`; ``any_kind``: the slot may ask for what is no contract."""
    packages = filling.packages
    result: Plan[T] = Plan(key)
    try:
        target = _find(config, kind, key, packages, any_kind)
    except ConfigError as error:
        result.faults = error.faults
        return result
    parameters, hints, open_ended = _constructor(target)
    located = dict(located_arguments(target))
    if not filling.initial:
        initial = {name for name, place in located.items() if place.initial}
        config = {name: value for name, value in config.items() if name not in initial}
    names = list(parameters)
    trusted = packages is None or not _gives_parts_alone(_package(target.__module__))

    def nested(item: Any, annotation: Any, where: str) -> Plan[Any]:
        return _plan(item, _nested_kind(annotation), where, _NOTHING, filling, trusted)

    for name, value in config.items():
        where = f"{key}.{name}"
        if name == TARGET:
            continue
        if name not in names and not open_ended:
            renamed = called_now(where)
            if renamed:
                result.faults.append(Fault(where, renamed))
                continue
            others = [f"{key}.{other}" for other in names if other not in given]
            hint = did_you_mean(where, others) or f"It takes {_listed(others, key)}."
            result.faults.append(Fault(where, f"{target.__name__} has no such argument.", hint))
            continue
        annotation = hints.get(name, Any)
        if isinstance(value, list) and any(_is_node(item) for item in value):
            value = [
                nested(item, annotation, f"{where}[{index}]") for index, item in enumerate(value)
            ]
            result.faults += [fault for item in value for fault in item.faults]
            result.takes_spec |= any(item.takes_spec for item in value)
        elif _is_node(value):
            value = nested(value, annotation, where)
            result.faults += value.faults
            result.takes_spec |= value.takes_spec
        elif value == "???":
            problem = f"must be given ({expected(annotation)})."
            result.faults.append(Fault(where, problem, missing=True))
        elif unusable(value) and _package(target.__module__) in PUBLIC:
            problem = f"must be {unusable(value)}, got {shown(value)}."
            result.faults.append(Fault(where, problem, joint=" "))
        elif name in located and (kind_there := _endless(value)):
            problem = f"{shown(value)} is {kind_there}; give a file or a folder."
            result.faults.append(Fault(where, problem))
        elif not fits(value, annotation):
            result.faults.append(
                wrong_type(where, value, annotation, _as_a_choice(key, name, value, annotation))
            )
        result.arguments[name] = value

    for name, parameter in parameters.items():
        if name in result.arguments:
            continue
        value = given.get(name, _NOTHING)
        if value is _NOTHING:
            value = filling.fact(parameter, hints.get(name))
            result.takes_spec |= value is filling.spec
        if value is not _NOTHING:
            result.arguments[name] = value
        elif parameter.default is inspect.Parameter.empty:
            result.waits = True
            if filling.misses(name):
                problem = f"{target.__name__} needs {name!r}, which this data does not give"
                result.faults.append(Fault(key, f"{problem}{filling.why(name)}."))
    result.target = target
    return result


def _find(
    config: Mapping[str, Any],
    kind: type[T],
    key: str,
    packages: frozenset[str] | None,
    any_kind: bool,
) -> type[T]:
    where = f"{key}.{TARGET}"
    path = config.get(TARGET) if isinstance(config, Mapping) else None
    if path is None and called_now(key):
        raise ConfigError([Fault(key, called_now(key))])
    path = CLASSES.get(path, path) if isinstance(path, str) else path
    # What is no name is not looked up, nor repeated in advice that somebody may paste in a shell.
    if not isinstance(path, str) or "." not in path or not _is_dotted_name(path):
        raise ConfigError(
            [Fault(where, f"must name a class, as package.module.Class; got {path!r}.")]
        )
    module_name, _, name = path.rpartition(".")
    if packages is not None:
        # Before the import, which runs the module.
        _require_allowed(module_name, path, where, packages)
        if _package(module_name) in PUBLIC and "._" in module_name:
            part = f"{path} comes from a private part of {_package(module_name)}."
            raise ConfigError([Fault(where, part, MAY_NAME)])
        if not (any_kind or _is_contract(kind)):
            hint = "Give a plain value, or make the object in a class of your own."
            problem = "takes no class in the config of a run's folder."
            raise ConfigError([Fault(key, problem, hint)])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there and lacks something itself: not the config's fault
        hint = "A module of your own is found in the folder where dltrain is typed."
        raise ConfigError([Fault(where, f"there is no module {error.name!r}.", hint)]) from error
    target = getattr(module, name, None)
    if target is None:
        hint = did_you_mean(name, [n for n in vars(module) if not n.startswith("_")])
        raise ConfigError([Fault(where, f"module {module_name} has no {name!r}.", hint)])
    if not (inspect.isclass(target) and issubclass(target, kind)):
        raise ConfigError([Fault(where, f"{path} is no {kind.__name__}.")])
    if packages is not None:
        _require_home(target, path, where, packages)
    if inspect.isabstract(target):
        raise ConfigError([Fault(where, _abstract(target, path))])
    return target


def _abstract(target: type[Any], path: str) -> str:
    """What is missing of a class that cannot be made."""
    if _package(target.__module__) in PUBLIC:
        return f"{path} is abstract: name one of its subclasses."
    missing = []
    for name in sorted(target.__abstractmethods__):
        method = inspect.getattr_static(target, name)
        of = next(c for c in target.__mro__ if vars(c).get(name) is method)
        signature = inspect.signature(method) if inspect.isfunction(method) else ""
        missing.append(f"{name}{signature} of {of.__name__}")
    source = inspect.getsourcefile(target)
    place = f" ({source}, line {inspect.getsourcelines(target)[1]})" if source else ""
    return f"{path} is abstract: it lacks {', '.join(missing)}{place}."


def _is_dotted_name(path: str) -> bool:
    return all(part.isidentifier() for part in path.split("."))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _gives_parts_alone(package: str) -> bool:
    """Whether a stranger's config may make nothing of it but a contract's classes."""
    return package in PUBLIC or (package in offered() and package not in named())


def _require_allowed(module: str, path: str, where: str, packages: frozenset[str]) -> None:
    """Raise :class:`ConfigError` unless ``module``, which ``path`` leads to, may be used."""
    package = _package(module)
    if package in packages:
        homes = PUBLIC.get(package, (package,))
        if any(f"{module}.".startswith(f"{home}.") for home in homes):
            return
        problem, hint = f"a part of {package} that this run may not import", MAY_NAME
    elif package in PUBLIC or package in sys.stdlib_module_names or package in BESIDE:
        # Nobody needs these in a config, save to do harm.
        problem, hint = "a package this run may not import", MAY_NAME
    else:
        problem = "a package this run may not import"
        trusted = ",".join(sorted((packages - OWN_PACKAGES) | {package}))
        hint = f"If you trust it, set the environment variable DLTRAIN_PACKAGES={trusted}."
    of = "" if path.startswith(f"{module}.") else f", of {module},"
    raise ConfigError([Fault(where, f"{path}{of} comes from {problem}.", hint)])


def _require_home(target: type[Any], path: str, where: str, packages: frozenset[str]) -> None:
    """Check a class by where it is defined, and not by the way that leads to it."""
    _require_allowed(target.__module__, path, where, packages)
    if not _gives_parts_alone(_package(target.__module__)):
        return
    if not _is_contract(target):
        raise ConfigError([Fault(where, f"{path} is no part of a run.", MAY_NAME)])
    for parent in target.__mro__:
        if _package(parent.__module__) in PUBLIC:
            _require_allowed(parent.__module__, path, where, packages)


def _is_contract(kind: type[Any]) -> bool:
    """Whether ``kind`` is one of the contracts, or a kind of one."""
    return any(f"{cls.__module__}.{cls.__qualname__}" in CONTRACTS for cls in kind.__mro__)


def _constructor(target: type[Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any], bool]:
    """The parameters and type hints of ``target``'s constructor, and whether it takes any others.

    A constructor with ``**rest`` hands the rest on, so that its parents' parameters are its own.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    open_ended = False
    for owner in target.__mro__:
        constructor = vars(owner).get("__init__")
        # object's signature admits everything, its constructor nothing.
        if constructor is None or owner is object:
            continue
        own = list(inspect.signature(constructor).parameters.values())[1:]
        named = {p.name: p for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        try:
            own_hints = typing.get_type_hints(constructor)
        except NameError:  # annotations that only exist for type checkers cannot be checked
            own_hints = {}
        parameters = {**named, **parameters}
        hints = {**own_hints, **hints}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in own)
        if not open_ended:
            break
    return parameters, hints, open_ended


def _as_a_choice(key: str, name: str, value: Any, annotation: Any) -> str:
    """How a text is typed that may be meant as the choice of a class; empty where it is not."""
    if not isinstance(value, str) or not _is_contract(_nested_kind(annotation)):
        return ""
    return f"Choose one by {key.replace('.', '/')}/{name}={value}."


def _nested_kind(annotation: Any) -> type[Any]:
    named = (annotation, *typing.get_args(annotation))
    # Python 3.10 calls list[int] a class; from 3.11 on, Any is one.
    kinds = [a for a in named if inspect.isclass(a) and typing.get_origin(a) is None]
    return next((k for k in kinds if k not in (type(None), Any)), object)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET in value


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(item) for item in value]
    return value.make() if isinstance(value, Plan) else value


def _endless(value: Any) -> str:
    """What is at a path that nobody can read to its end, such as a pipe; empty of all else."""
    try:
        kind = kind_of(Path(value).expanduser().stat().st_mode) if isinstance(value, str) else ""
    except (OSError, ValueError, RuntimeError):  # it is not there, or no path at all
        return ""
    return "" if kind == "a folder" else kind


def _listed(names: list[str], key: str) -> str:
    return ", ".join(sorted(name.removeprefix(f"{key}.") for name in names)) or "no arguments"
