"""Exporting a run: networks that work without dltrain, and all that is needed to use them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from dltrain.contracts.preprocessing import Preprocessing
from dltrain.errors import UserError
from dltrain.inference.comparison import LIMIT, largest_difference
from dltrain.inference.int8 import quantize, same_classes
from dltrain.inference.network import Network, described, networks_of
from dltrain.inference.predictor import Predictor
from dltrain.inference.use_script import NAME as SCRIPT
from dltrain.inference.use_script import script
from dltrain.optim.quantization import in_floating_point
from dltrain.runs.examples import Examples, inputs_of
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import READER

ABOUT = "export.json"
FORMAT = 1
"""Of ``export.json``; docs/export.md describes it."""
FORMATS = {"onnx": "dltrain.inference.onnx_format", "torch": "dltrain.inference.torch_format"}
"""Modules that write and read a file of each."""


@dataclass(frozen=True)
class Export:
    """What was written: ``files`` in ``folder``, the chief network first."""

    folder: Path
    files: list[str]
    about: Mapping[str, Any]


def require(format: str) -> ModuleType:
    """What writes a ``format``. Raises :class:`UserError` where a package for it is missing."""
    module = import_module(FORMATS[format])
    missing = [name for name in module.LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"export: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing: "
            "pip install 'dltrain[export]'"
        )
    return module


def export(
    predictor: Predictor,
    examples: Examples,
    format: str,
    out: Path,
    measured: Examples | None = None,
) -> Export:
    """Write the networks of a run, ``export.json`` and ``use.py`` into ``out``.

    They are written beside it first, read back, and compared on ``examples``. With ``measured``
    they compute with 8-bit integers, whose ranges these examples give. Raises :class:`UserError`,
    leaving nothing behind, where that cannot be done or, without integers, they differ.
    """
    module = require(format)
    steps = preprocessing_of(predictor)

    def networks_on(some: Examples) -> list[Network]:
        inputs = inputs_of(some.columns, predictor.spec)
        return networks_of(predictor.task, predictor.spec, inputs, steps)

    networks = networks_on(examples)
    to_measure = networks_on(measured) if measured is not None else []
    created = _missing_parents(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as temporary:
            made = _write(Path(temporary), networks, module, to_measure)
            used = steps if any(len(n.flat.steps) for n in networks) else None
            about = {
                "format": FORMAT,
                "dltrain": metadata.version("dltrain"),
                "run": str(predictor.path),
                "weights": predictor.weights,
                "networks": made,
                "examples": {"split": examples.split, "count": _count(networks[0])},
                "preprocessing": dict(used.outside) if used is not None else None,
            }
            if measured is not None:
                count = _count(to_measure[0])
                about["measured"] = {"split": measured.split, "count": count}
            texts = dict(used.files) if used is not None else {}
            texts[ABOUT] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
            texts[SCRIPT] = script(about, format)
            for name, text in texts.items():
                (Path(temporary) / name).write_text(text, encoding="utf-8")
            files = [*(entry["file"] for entry in made.values()), *texts]
            for name in files:
                (Path(temporary) / name).replace(out / name)
    except BaseException:
        for folder in created:
            folder.rmdir()
        raise
    return Export(out, files, about)


def _write(
    folder: Path, networks: list[Network], module: ModuleType, to_measure: Sequence[Network]
) -> dict[str, Any]:
    """Write each network, and compare it; what ``export.json`` says of them."""
    made: dict[str, Any] = {}
    measured = {network.name: network for network in to_measure}
    for network in networks:
        path = folder / f"{network.name}{module.SUFFIX}"
        about: dict[str, Any] = {}
        with in_floating_point(network.original) if measured else contextlib.nullcontext():
            module.write(network, path)
        if measured:
            about = {"float_bytes": path.stat().st_size}
            quantize(path, measured[network.name])
            program = module.read(path, network)
            about |= {"bytes": path.stat().st_size}
            about |= {"other_classes": same_classes(measured[network.name], program)}
        difference = largest_difference(network, module.read(path, network))
        if not measured and not difference <= LIMIT:
            raise UserError(
                f"export: {network.name}{module.SUFFIX} would differ from the run by "
                f"{difference:.2g} on its examples, more than {LIMIT:g}: nothing was written."
            )
        made[network.name] = {
            "file": path.name,
            "largest_difference": difference,
            **about,
            **described(network, module.SHORTEST),
        }
    return made


def preprocessing_of(predictor: Predictor) -> Preprocessing | None:
    """What the run's reader does; None where it has none, or nobody can tell."""
    if not RunFolder(predictor.path).read_json(READER):
        return None
    return predictor.reader.preprocessing()


def _count(network: Network) -> int:
    return len(next(iter(network.inputs.values())))


def _missing_parents(path: Path) -> list[Path]:
    """The folders that making ``path`` makes, the innermost first."""
    found = []
    while not path.exists():
        found.append(path)
        path = path.parent
    return found
