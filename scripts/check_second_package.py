"""Whether a package that offers parts works: built, installed in a clean place, used, loaded.

No network is needed: the new environment sees this one's libraries. ``python
scripts/check_second_package.py`` prints what it tries and ends with 0 if all of it holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "beans"
        version = "1.0"
        [project.entry-points."dltrain.configs"]
        beans = "beans.configs"
        [tool.setuptools]
        packages = ["beans", "beans.configs"]
        package-data = { "beans.configs" = ["**/*.yaml"] }
        """,
    "beans/__init__.py": "",
    "beans/parts.py": """
        import subprocess
        import torch
        from torch import nn
        from dltrain.contracts.run import Callback
        from dltrain.data.streams.in_memory import InMemory
        from dltrain.data.tables.source import VectorSource


        class Bean(nn.Sequential):
            def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 8) -> None:
                first, second = nn.Linear(input_shape[0], width), nn.Linear(width, outputs)
                super().__init__(first, nn.ReLU(), second)


        class Sprouts(VectorSource):
            feature_names = ("sun", "rain")
            class_names = ("dry", "green")

            def splits(self):
                x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
                columns = {"input": x, "target": (x.sum(1) > 1).long()}
                return {name: InMemory(columns) for name in ("train", "test")}


        class Counts(Callback):
            def end(self, view, status):
                view.write("beans.txt", status)


        class Harm:
            def __init__(self, command: str = "") -> None:
                subprocess.run(command, shell=True, check=False)


        class Carrier(nn.Linear):
            def __init__(self, outputs: int, load: object = None) -> None:
                super().__init__(2, outputs)
        """,
    "beans/configs/__init__.py": "",
    "beans/configs/model/bean.yaml": """
        # @package _global_
        # A small network from another package.
        model:
          _target_: beans.parts.Bean
          width: 8  # units
        """,
    "beans/configs/data/sprouts.yaml": """
        # @package _global_
        # Points that are green where there is enough of both.
        defaults:
          - /data/augment: vectors
          - override /task@_global_.task: supervised
        data:
          _target_: beans.parts.Sprouts
          batch_size: 32
          evaluation_batch_size: 256
        """,
    "beans/configs/callbacks/beans.yaml": """
        # @package _global_
        # Writes how the run ended.
        callbacks:
          beans:
            _target_: beans.parts.Counts
        """,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in FILES.items():
            path = root / "beans-src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip())
        python = environment(root)

        def run(*words: str, code: int = 0) -> str:
            done = subprocess.run(
                [str(python), *words],
                cwd=root,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONNOUSERSITE": "1"},
            )
            said = done.stdout + done.stderr
            print(f"{'ok  ' if done.returncode == code else 'FAIL'} {' '.join(words)[:100]}")
            if done.returncode != code:
                raise SystemExit(said)
            return said

        def holds(what: str, fact: bool) -> None:
            print(f"{'ok  ' if fact else 'FAIL'} {what}")
            if not fact:
                raise SystemExit(1)

        dltrain = ("-m", "dltrain")
        run(*dltrain, "model=bean", "--cfg", "job", code=2)  # not yet there
        run("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "./beans-src")
        holds("help lists it", "from another package" in run(*dltrain, "help", "model"))
        holds("list lists it", "beans" in run(*dltrain, "list", "model"))
        holds("help explains it", "model.width=8" in run(*dltrain, "help", "model=bean"))
        holds("a slip is told", "Did you mean 'bean'" in run(*dltrain, "model=beam", code=2))
        typed = ("model=bean", "data=sprouts", "callbacks=[none,beans]", "trainer.epochs=2")
        run(*dltrain, *typed, "device=cpu")
        holds("its callback ran", bool(list(root.glob("outputs/*/*/beans.txt"))))
        predict = "import dltrain; print(dltrain.load('latest').predict({'sun': 1, 'rain': 1}))"
        holds("its run loads", "class" in run("-c", predict))

        # What is no part of a run is made by no run's folder.
        config = next(iter(root.glob("outputs/*/*/config.yaml")))
        text, marks = config.read_text(), root / "harmed"
        harm = f"{{_target_: beans.parts.Harm, command: touch {marks}}}"
        for node in (harm, f"{{_target_: beans.parts.Carrier, load: {harm}}}"):
            before, _, after = text.partition("model:\n")
            rest = after[after.index("\nregularizer") :] if "\nregularizer" in after else ""
            config.write_text(f"{before}model: {node}\n{rest}")
            refused = run("-c", "import dltrain; dltrain.load('latest')", code=1)
            holds("harm is refused", "config.yaml: model" in refused and not marks.exists())


def environment(root: Path) -> Path:
    """A virtual environment with dltrain from here, and the libraries that this Python has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    python = root / "venv" / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run(
        [str(python), "-c", query], capture_output=True, text=True, check=True
    ).stdout.strip()
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    libraries.append(sysconfig.get_path("purelib"))
    # Behind the environment's own folder, so that what is installed there is found first.
    Path(site, "zz_libraries.pth").write_text("\n".join(dict.fromkeys(libraries)) + "\n")
    for name in ("src", "configs"):
        shutil.copytree(REPOSITORY / name, root / "dltrain-src" / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, root / "dltrain-src")
    install = (
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
    )
    subprocess.run([str(python), *install, str(root / "dltrain-src")], check=True)
    return python


if __name__ == "__main__":
    main()
