"""Exporting a run: networks that work without dltrain, and all that is needed to use them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from dltrain.contracts.preprocessing import Preprocessing
from dltrain.errors import UserError
from dltrain.inference.comparison import LIMIT, largest_difference
from dltrain.inference.network import Network, described, networks_of
from dltrain.inference.predictor import Predictor
from dltrain.inference.use_script import NAME as SCRIPT
from dltrain.inference.use_script import script
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


def export(predictor: Predictor, examples: Examples, format: str, out: Path) -> Export:
    """Write the networks of a run, ``export.json`` and ``use.py`` into ``out``.

    They are written beside it first, read back, and compared on ``examples``. Raises
    :class:`UserError`, leaving nothing behind, where that cannot be done or they differ.
    """
    module = require(format)
    steps = _preprocessing(predictor)
    inputs = inputs_of(examples.columns, predictor.spec)
    networks = networks_of(predictor.task, predictor.spec, inputs, steps)
    created = _missing_parents(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as temporary:
            made = _write(Path(temporary), networks, module)
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


def _write(folder: Path, networks: list[Network], module: ModuleType) -> dict[str, Any]:
    """Write each network, and compare it; what ``export.json`` says of them."""
    made: dict[str, Any] = {}
    for network in networks:
        path = folder / f"{network.name}{module.SUFFIX}"
        module.write(network, path)
        difference = largest_difference(network, module.read(path, network))
        if not difference <= LIMIT:
            raise UserError(
                f"export: {network.name}{module.SUFFIX} would differ from the run by "
                f"{difference:.2g} on its examples, more than {LIMIT:g}: nothing was written."
            )
        made[network.name] = {
            "file": path.name,
            "largest_difference": difference,
            **described(network, module.SHORTEST),
        }
    return made


def _preprocessing(predictor: Predictor) -> Preprocessing | None:
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
