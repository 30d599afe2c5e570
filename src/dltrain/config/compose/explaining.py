"""Why overrides do not compose: the faults of each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Override,
    QuotedString,
)

from dltrain.config.compose.config_files import file_with
from dltrain.config.compose.grammar import is_group
from dltrain.config.compose.hydra_setup import (
    BUILT_IN,
    NotComposedError,
    composed,
    group_names,
    keys_of,
    options_of,
)
from dltrain.config.compose.meant import NOTHING, brought_by, comes_with, files_meant, takers
from dltrain.config.quoting import in_grammar, override_as_text
from dltrain.config.renamed import called_now
from dltrain.config.suggest import nearest
from dltrain.errors import Fault, shortened


def explained(lines: Sequence[str], error: NotComposedError) -> list[Fault]:
    """The faults of overrides that do not compose, of which Hydra tells ``error``.

    Of each override by itself: groups first, for keys depend on what they choose. Where a choice is
    none, the keys are those of what it may mean; nothing is said of its group's if that is unknown.
    """
    parser = OverridesParser.create()
    overrides = parser.parse_overrides(list(lines))
    found: list[Fault] = []
    unknown: list[str] = []
    chosen: list[Override] = []
    others: list[Override] = []
    for override in overrides:
        fault = _group_fault(override) if is_group(override) else None
        if fault is not None:
            found.append(fault)
            if fault.instead:
                chosen += parser.parse_overrides([fault.instead])
            else:
                unknown.append(f"{override.key_or_group.replace('/', '.')}.")
        else:
            (chosen if is_group(override) else others).append(override)
    try:
        base = composed(_lines(chosen))
    except NotComposedError:
        return found or _one_by_one([], chosen, error)
    told = [one for one in others if not one.key_or_group.startswith(tuple(unknown))]
    found += _key_faults(told, chosen, list(keys_of(base)))
    return found or _one_by_one(chosen, others, error)


def _lines(overrides: Sequence[Override]) -> list[str]:
    return [override.input_line or "" for override in overrides]


def _one_by_one(
    good: Sequence[Override], others: Sequence[Override], error: NotComposedError
) -> list[Fault]:
    """What Hydra tells of each of ``others`` without the rest; if nothing, ``error``."""
    found = []
    for override in others:
        try:
            composed(_lines([*good, override]))
        except NotComposedError as its:
            found.append(_by_itself(override, its))
    return found or [Fault("config", str(error))]


def _by_itself(override: Override, error: NotComposedError) -> Fault:
    """The fault of an override that does not go with the groups that were chosen."""
    key, line = override.get_key_element().lstrip("+~"), override.input_line or ""
    others = takers(line) if "/" in key and is_group(override) else []
    if not others:
        return Fault(key, f"{error}")
    group = key.rpartition("/")[0]
    return Fault(key, f"this {group} takes none; it goes with {', '.join(others)}.")


def _key_faults(
    overrides: Sequence[Override], chosen: Sequence[Override], keys: Sequence[str]
) -> Iterator[Fault]:
    """Each override of a key that is not among ``keys``, with what may be meant."""
    for override in overrides:
        key = override.get_key_element().lstrip("+~")
        meant = files_meant(override)
        if meant is not None:
            yield meant
            continue
        if override.is_add() or override.is_force_add():
            continue
        if key in keys or key.startswith("hydra."):
            continue
        if called_now(key):
            yield Fault(key, called_now(key))
            continue
        if comes_with(key):
            yield Fault(key, "there is no such key here.", comes_with(key))
            continue
        groups = [group for group in group_names() if "/" not in group]
        found = nearest(key, [*keys, *groups])
        if found is None:
            yield Fault(key, "there is no such key.", _listed_beside(key, keys))
        else:
            file = None if found in groups else file_with(found, _lines(chosen))
            where = f" ({file})" if file else ""
            hint = f"Did you mean {found!r}{where}?"
            instead = (override.input_line or "").replace(key, found, 1)
            yield Fault(key, "there is no such key.", hint, instead=instead)


def _listed_beside(key: str, keys: Sequence[str]) -> str:
    """What there is where ``key`` was looked for: in its group, or at the top."""
    group = key.rpartition(".")[0]
    while group and group not in keys:
        group = group.rpartition(".")[0]
    inside = [k[len(group) + 1 :] for k in keys if k.startswith(f"{group}.")] if group else keys
    names = sorted({name.partition(".")[0] for name in inside} - {"_target_"})
    bringing = "" if names else brought_by(group, key)
    if bringing:
        return bringing
    return f"{f'{group} has' if group else 'There are'} {', '.join(names) or 'nothing'}."


def _group_fault(override: Override) -> Fault | None:
    """What is wrong with the choice of a file, or of several."""
    if override.is_delete():
        return None
    group, value = override.key_or_group, override.value()
    there = options_of(group)
    for choice in value if isinstance(value, list) else [value]:
        if isinstance(choice, (list, dict)):
            hint = f"Write {group}=NAME, and what differs beside it: {group}.KEY=VALUE."
            return Fault(group, "takes the name of a file, or a list of names.", hint, joint=" ")
        name = in_grammar(choice) if choice is None or isinstance(choice, bool) else str(choice)
        if name not in there:
            return _no_such_choice(override, group, name, there)
        if not isinstance(choice, (str, QuotedString)):
            hint = f"If it is the file's name, write {override_as_text(f'{group}={name}', _no)}"
            return Fault(group, f"{name} is read as no text.", hint)
    return None


def _no(_: str) -> bool:
    return False


def _no_such_choice(override: Override, group: str, name: str, there: Sequence[str]) -> Fault:
    renamed = called_now(f"{group}={name}")
    if renamed:
        return Fault(f"{group}={name}", renamed)
    found = nearest(name, there)
    if name == "null" and NOTHING in there:
        found = NOTHING
    hint = f"Did you mean {found!r}?" if found else f"There are {', '.join(there)}."
    problem = f"there is no {group}/{shortened(name)}.yaml in {BUILT_IN}."
    line = override.input_line or ""
    meant = line.replace(name, found, 1) if found and line.endswith(name) else ""
    return Fault(f"{group}={name}", problem, hint, instead=meant)
