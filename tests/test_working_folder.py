"""Files in the folder where a command is typed are run only if they are the user's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain import training as run
from dltrain.runs.finding import latest
from tests.conftest import Compose
from tests.making import tell_otherwise

# What Python's library, torch, scipy, pandas, tensorboard, … look for, and do not need; a name of
# Python's own that only an earlier place on the path can steal; and Hydra's plugins.
WANTED = (
    *("msvcrt", "_winapi", "winreg", "org", "attr", "envwrap", "pynvml", "torchcomms", "pydot"),
    *("monkeytype", "opt_einsum", "cutlass", "cython", "charset_normalizer", "psutil", "lz4"),
    *("scikits", "sksparse", "uarray", "pytz", "numexpr", "bottleneck", "botocore", "isal"),
    *("lzmaffi", "snappy", "backports", "zstandard", "tensorflow", "pwd", "traceback", "argparse"),
    *("socket", "numpy", "torch", "yaml", "sitecustomize", "usercustomize"),
)
INSTALLED = Path(sys.executable).with_name("dltrain")
MINE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        from sizes import WIDTH

        super().__init__(nn.Flatten(), nn.Linear(64, WIDTH), nn.Linear(WIDTH, outputs))

    def forward(self, images):
        import called_late

        return called_late.same(super().forward(images))
"""
QUICK = ("data=digits", "callbacks=none", "trainer.steps=1", "device=cpu")


def poison(folder: Path) -> None:
    """Fill ``folder`` with files that leave a mark if they are run."""
    mark = f"open({str(folder / 'PWNED')!r}, 'a').write(__name__ + ' ')\n"
    for name in WANTED:
        (folder / f"{name}.py").write_text(mark)
    (folder / "hydra_plugins").mkdir()
    (folder / "hydra_plugins" / "evil.py").write_text(mark)


def typed(folder: Path, *arguments: str, trusted: str = "", module: bool = True) -> str:
    """What a command that is typed in ``folder`` prints, once nothing of its poison has run."""
    command = [sys.executable, "-m", "dltrain"] if module else [str(INSTALLED)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "DLTRAIN_PACKAGES": trusted},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    mark = folder / "PWNED"
    assert not mark.exists(), f"ran {mark.read_text()}"
    return f"{done.returncode} {done.stdout}{done.stderr}"


@pytest.fixture
def folder(compose: Compose, tmp_path: Path) -> Path:
    """A run of images that was interrupted, with poison among its files."""
    output_dir = tmp_path / "outputs"
    run.train(compose("model=vae", *QUICK, f"output_dir={output_dir}"))
    folder = latest(output_dir)
    tell_otherwise(folder, status="interrupted")
    poison(folder)
    return folder


@pytest.mark.slow
def test_a_run_folder_is_resumed_and_sampled_where_it_lies(folder: Path) -> None:
    assert typed(folder, "resume", ".").startswith("0 ")
    # Started as a command, Python puts no folder first: where it is installed, see that too.
    assert "64 images in" in typed(folder, "sample", ".", module=not INSTALLED.exists())


@pytest.mark.slow
def test_a_model_of_ones_own_and_what_it_imports_are_found(tmp_path: Path) -> None:
    poison(tmp_path)
    (tmp_path / "mynets.py").write_text(MINE)
    (tmp_path / "sizes.py").write_text("WIDTH = 5\n")
    (tmp_path / "called_late.py").write_text("def same(values):\n    return values\n")
    net = ("model=mlp", "~model", "+model._target_=mynets.Net", "name=mine")

    assert typed(tmp_path, *net, *QUICK).startswith("0 ")

    # Nobody has to trust a folder in order to go on with a run that lies in it …
    tell_otherwise(latest(tmp_path / "outputs"), status="interrupted")
    refused = typed(tmp_path, "resume", "latest")
    assert refused.startswith("2 ")
    assert "DLTRAIN_PACKAGES=mynets" in refused
    # … but may: it says whose modules are meant, and none but theirs are run.
    assert typed(tmp_path, "resume", "latest", trusted="mynets").startswith("0 ")


def test_a_module_is_found_by_targets_and_by_its_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    from dltrain.config.build import plan
    from dltrain.config.working_folder import importable

    installed = tmp_path / "installed"
    here = tmp_path / "here"
    (here / "a_package").mkdir(parents=True)
    installed.mkdir()
    (here / "poisoned.py").write_text("raise SystemExit('this was run')\n")
    (here / "a_library.py").write_text("raise SystemExit('the installed one comes first')\n")
    (here / "a_helper.py").write_text("VALUE = 3\n")
    (here / "a_package" / "nets.py").write_text(
        "import importlib\nimport a_library\nfrom torch.nn import Identity as Net\n"
        "def late():\n    return importlib.import_module('a_helper').VALUE\n"
    )
    (installed / "a_library.py").write_text(
        "try:\n    import poisoned\nexcept ModuleNotFoundError:\n    poisoned = None\n"
    )
    monkeypatch.syspath_prepend(installed)
    before = list(sys.path)

    with importable(here):
        with pytest.raises(ModuleNotFoundError):
            __import__("a_helper")
        checked = plan({"_target_": "a_package.nets.Net"}, nn.Module, "model", {})
        assert checked.target is nn.Identity
        assert sys.modules["a_library"].poisoned is None  # type: ignore[attr-defined]
        assert sys.modules["a_package.nets"].late() == 3  # type: ignore[attr-defined]
        assert sys.path == before
    shutil.rmtree(here)
    assert plan({"_target_": "b_package.Net"}, nn.Module, "model", {}).faults
