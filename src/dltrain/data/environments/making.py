"""From the id of an environment to one that runs, and what it shows and asks for."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dltrain.config.offered import named
from dltrain.config.suggest import did_you_mean, nearest

if TYPE_CHECKING:
    import gymnasium

INSTALL = "pip install 'dltrain[rl]'"
NAMESPACES = {"ALE": ("ale_py", "pip install 'dltrain[atari]'")}
"""Packages that bring the environments of a namespace, and how they are installed."""
LONGEST = 10_000
"""Steps of an episode of an environment that has no limit of its own."""
VERSION = re.compile(r"-v\d+$")


def library() -> Any:
    """Gymnasium. Raises ValueError where it is not installed."""
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise ValueError(f"environments need gymnasium: {INSTALL}") from error


def made(
    environment: str, options: Mapping[str, Any], longest: int | None, shown: bool = False
) -> gymnasium.Env[Any, Any]:
    """A new one; with ``shown``, one whose screen can be asked for.

    ``longest`` is the limit of an episode (None: its own, or else ``LONGEST``). Raises ValueError
    for an id that nobody registered, for options that it does not take, and where what it needs is
    not installed.
    """
    gym = library()
    registered = _registered(gym, environment)
    limit = longest or gym.spec(registered).max_episode_steps or LONGEST
    if shown:  # into memory: it looks for a display otherwise, and says so where there is none
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    given = {**options, **({"render_mode": "rgb_array"} if shown else {})}
    try:
        with warnings.catch_warnings():
            # It warns of newer versions of an environment that somebody asked for.
            warnings.simplefilter("ignore")
            found = gym.make(registered, max_episode_steps=limit, disable_env_checker=True, **given)
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(
            f"environment {environment} needs more: {INSTALL}. {_line(error)}"
        ) from error
    except Exception as error:  # whatever the constructor of a stranger's environment raises
        raise ValueError(
            f"environment {environment} cannot be made: {type(error).__name__}: {_line(error)}"
        ) from error
    return found


def own_limit(environment: str) -> int | None:
    """After how many steps its episodes are cut, where whoever registered it says so."""
    gym = library()
    found: int | None = gym.spec(_registered(gym, environment)).max_episode_steps
    return found


def _registered(gym: Any, environment: str) -> str:
    """The id, once whoever registers it is imported."""
    package, _, plain = environment.rpartition(":")
    if package:
        _require_allowed(environment, package)
        _imported(package, f"environment {environment}: {package} is not installed")
    namespace = plain.partition("/")[0]
    if namespace in NAMESPACES and plain not in gym.registry:
        module, install = NAMESPACES[namespace]
        _imported(module, f"environment {plain} comes with {module}: {install}")
    if plain in gym.registry:
        place = gym.spec(plain).entry_point
        if isinstance(place, str):
            _require_allowed(plain, place.partition(":")[0])
        return plain
    known = sorted(gym.registry)
    bare = VERSION.sub("", plain)
    same = [name for name in known if VERSION.sub("", name).lower() == bare.lower()]
    if same:
        hint = f"Did you mean {same[-1]!r}?"
    else:
        # Compared without versions: they say nothing of what it is.
        found = nearest(bare, [VERSION.sub("", name) for name in known])
        names = [name for name in known if VERSION.sub("", name) == found]
        hint = f"Did you mean {names[-1]!r}?" if names else did_you_mean(plain, known)
    hint = hint or f"There are {', '.join(sorted({VERSION.sub('', name) for name in known}))}."
    raise ValueError(f"environment {environment}: no such environment is installed. {hint}")


def _require_allowed(environment: str, package: str) -> None:
    """Raise ValueError for a package that nobody trusts: a run folder may be a stranger's."""
    trusted = {"gymnasium", *(module for module, _ in NAMESPACES.values()), *named()}
    if not any(f"{package}.".startswith(f"{one}.") for one in trusted):
        raise ValueError(
            f"environment {environment}: importing {package} would run its code: set "
            f"DLTRAIN_PACKAGES={package} to allow it"
        )


def _imported(module: str, problem: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(problem) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
