"""Renew scripts/constraints.txt: exact versions of every package, for every Python that we support.

    python scripts/renew_constraints.py                         # the newest of each
    python scripts/renew_constraints.py 'torch==2.14.1' …       # with some of them held
    python scripts/renew_constraints.py --keep                  # all held: adds what is new

Then ``python scripts/check_versions.py --versions locked`` sees whether they work.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
OLDEST_PYTHON = "3.10"
ALONE = {"flower"}
"""Extras whose requirements contradict those of the others: flwr wants older ones of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("held", nargs="*", help="what is not to be the newest: 'torch==2.14.1'")
    parser.add_argument("--keep", action="store_true", help="change nothing that need not change")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        holding = Path(folder) / "held.txt"
        holding.write_text("\n".join(arguments.held))
        made = Path(folder) / "constraints.txt"
        if arguments.keep:  # the resolver prefers what its output has already
            shutil.copyfile(CONSTRAINTS, made)
        command = [
            *(uv(Path(folder)), "pip", "compile", "-q", "--universal", *_extras()),
            *("--python-version", OLDEST_PYTHON, "--no-annotate", "--no-emit-index-url"),
            *("--custom-compile-command", shlex.join(["python", *sys.argv])),
            *("-c", str(holding), "-o", str(made), "pyproject.toml"),
        ]
        subprocess.run(command, cwd=ROOT, check=True)
        shutil.copyfile(made, CONSTRAINTS)
    print(f"{CONSTRAINTS.relative_to(ROOT)}: {len(CONSTRAINTS.read_text().splitlines())} lines")


def _extras() -> list[str]:
    """Arguments that name the extras whose packages are pinned."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["project"]["optional-dependencies"]
    return [f"--extra={extra}" for extra in named if extra not in ALONE]


def uv(folder: Path) -> str:
    """The resolver: it alone solves for several Pythons at once, and for the oldest versions."""
    found = shutil.which("uv")
    if found:
        return found
    venv.create(folder / "uv", with_pip=True)
    programs = folder / "uv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", "uv"], check=True)
    return str(programs / "uv")


if __name__ == "__main__":
    main()
