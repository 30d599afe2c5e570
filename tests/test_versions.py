"""What is claimed of versions is the same everywhere, and everything claimed is pinned."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from renew_constraints import ALONE
from tests.conftest import CONSTRAINTS, REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q -c scripts/constraints.txt -e"


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(text("pyproject.toml"))["project"]


def required(project: dict[str, Any]) -> list[Requirement]:
    named = project["optional-dependencies"].items()
    extras = [lines for extra, lines in named if extra not in ALONE]
    return [Requirement(line) for line in sum(extras, project["dependencies"])]


def pinned(python: str) -> dict[str, str]:
    """Each package's version in the constraints, as pip on Linux reads them with this Python."""
    environment = {
        **default_environment(),
        **{"python_version": python, "python_full_version": f"{python}.0"},
        **{"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    }
    found: dict[str, str] = {}
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        assert not requirement.extras, f"pip takes no extras in constraints: {line}"
        (version,) = requirement.specifier
        assert version.operator == "==", f"not exact: {line}"
        assert "*" not in version.version, f"not exact: {line}"
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} has two versions with Python {python}"
            found[name] = version.version
    return found


def test_the_pythons_are_the_same_everywhere(project: dict[str, Any]) -> None:
    specifier = SpecifierSet(project["requires-python"])
    assert [v for v in (f"3.{n}" for n in range(30)) if f"{v}.0" in specifier] == PYTHONS

    prefix = "Programming Language :: Python :: "
    named = [c.removeprefix(prefix) for c in project["classifiers"] if c.startswith(prefix)]
    assert named == PYTHONS

    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in text("README.md")
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert f"PYTHONS = {tuple(PYTHONS)!r}".replace("'", '"') in text("scripts/check_versions.py")
    assert f'OLDEST_PYTHON = "{PYTHONS[0]}"' in text("scripts/renew_constraints.py")
    assert f'target-version = "py{PYTHONS[0].replace(".", "")}"' in text("pyproject.toml")


def test_the_readmes_commands_are_what_ci_runs() -> None:
    commands = re.findall(r"^python3 -m venv .*$", text("README.md"), re.MULTILINE)
    assert commands == [
        f"{INSTALL} . && .venv/bin/dltrain",
        f"{INSTALL} '.[dev]' && .venv/bin/pytest",
    ]
    assert f"\n{commands[1]} || exit 1\n" in text(".ci/run")
    assert "bash .ci/run" in text(".github/workflows/ci.yml")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_within_its_range(python: str, project: dict[str, Any]) -> None:
    versions = pinned(python)
    for requirement in required(project):
        version = versions[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement}, but {version} is pinned"


def test_every_range_has_a_floor_that_can_be_tested(project: dict[str, Any]) -> None:
    for requirement in required(project):
        assert any(s.operator == ">=" for s in requirement.specifier), str(requirement)


def test_the_constraints_are_for_every_machine() -> None:
    assert not re.search(r"://|^-|@ |\+", text("scripts/constraints.txt"), re.MULTILINE)
