"""Build the wheel, see that it holds every file, install it in a clean environment and train there.

    python scripts/check_wheel.py

It is installed with the versions of scripts/constraints.txt. Needs the build requirements and
dependencies of pyproject.toml from a package registry.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        python = environment(place / "env")
        run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(place), str(ROOT))
        (wheel,) = place.glob("dltrain-*.whl")
        check_files(wheel)
        run(python, "-m", "pip", "install", "-q", "-c", "scripts/constraints.txt", str(wheel))
        dltrain = str(python.with_name("dltrain"))
        elsewhere = place / "elsewhere"
        elsewhere.mkdir()
        run(dltrain, "--cfg", "job", cwd=elsewhere)
        run(dltrain, "trainer.epochs=2", "device=cpu", cwd=elsewhere)
        outputs = elsewhere / "outputs"
        assert (outputs / (outputs / "latest").read_text().strip() / "summary.json").is_file()
    print("1 passed, 0 failed")


def environment(folder: Path) -> Path:
    """A clean environment's interpreter."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def check_files(wheel: Path) -> None:
    """Every module, template, page and config is in the wheel, and nothing else is."""
    expected = {
        "dltrain/" + path.relative_to(ROOT / "src" / "dltrain").as_posix()
        for path in (ROOT / "src" / "dltrain").rglob("*")
        if path.is_file() and path.suffix in (".py", ".typed", ".txt", ".html")
    } | {
        "dltrain/configs/" + path.relative_to(ROOT / "configs").as_posix()
        for path in (ROOT / "configs").rglob("*")
        if path.is_file() and path.suffix in (".py", ".yaml")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    if held != expected:
        sys.exit(
            f"{wheel.name} lacks {sorted(expected - held)} and has in excess "
            f"{sorted(held - expected)}"
        )


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; let its output and its failure through."""
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


if __name__ == "__main__":
    main()
