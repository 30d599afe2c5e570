"""Command lines as a person might type them: right ones, mistyped ones, and ones that are nonsense.

Strategies of hypothesis, made of the real tree of configs: its groups, their choices, the keys of
their files with the values that stand there, and of the options that each command's help names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from dltrain.commands.table import COMMANDS
from dltrain.config import compose as composition

Line = list[str]
OPTION = re.compile(r"^  (-[^ ].*?)(?:   *|$)", re.MULTILINE)


def words(text: str) -> list[str]:
    """The words of ``text``, which blanks divide."""
    return text.split()


# What is typed for a number; 2**63 and what follows are more than any tensor holds.
NUMBERS = words(
    "0 -1 1 2 3 0.5 1.0 -0.0 nan inf -inf 1e308 -1e308 1e-320 1e400 1_0 0x10 1000000000"
)
NUMBERS += [str(2**63), "9" * 40, "9" * 5000]
WORDS = words(
    """true false null None yes x '' "" ??? full auto none {} [] [[]] {a:{b:1}} [1,[2,[3]]] [nan]
    [null] [tensorboard] [[tensorboard]] {_target_:5} {_target_:os.system} ._target_ .x a.b.c"""
)
REFERENCES = words(
    """${.} ${..} ${seed} ${nope} ${name} ${oc.env:NOPE} ${oc.env:HOME} ${ } $ $$ \\${x}
    ${hydra:job.num} ${oc.decode:x} ${oc.select:a,b} ${optimizer} ${model.${seed}} ${now:%Y}
    ${oc.create:{a:1}}"""
)
SWEEPS = words(
    """1,2 a,b range(3) range(1,0) range(1,9,0) interval(0,1) choice(1,2) choice() , 1, glob(*)
    glob([a*,b]) sort(3,1) shuffle(1,2) tag(x,choice(1)) int(1.5) log(1e-4,1) uniform(0,1) log(0,1)
    log(1,1) int(log(1,8)) nope(1) str(1) extend_list(1) merge(1) json_str(1) float(x)"""
)
PATHS = words(
    """nope.csv inputs inputs/table.csv inputs/lines.txt inputs/digit.png inputs/not-a-png.png
    inputs/loop inputs/dangling inputs/empty /dev/null /dev/zero /dev/full /proc/self/mem
    ~ ~nobody-here/x . .. - ./-x *"""
)
PATHS += ["inputs/na\udcefve.csv"]
LONG = ["x" * 3000, f"[{','.join('1' * 500)}]", ",".join("1" * 500), "[" * 60, "[" * 30 + "]" * 30]
LONG += [".".join("a" * 200), "é" * 1000, f"[{','.join(['abc'] * 300)}]", "{a:" * 30 + "1"]
MARKS = [*"'\"\\\n\t\x07\u202e\ufeff=:@#;\udcff", "\x1b[31m"]
RUNS = words("latest good text table damaged no-config no-summary nope outputs .")
ASKED = """--cfg job|--cfg job|--cfg job|--cfg job|--cfg job|--cfg all|--cfg hydra|--cfg|-c x|--info
--cfg job --resolve|--cfg job -p model|-i x|--info config|--info defaults|--help|-h|--version|-p
--hydra-help|-sc x|--nope|-x|-cp x|--config-dir .|-cd|--config-name x --cfg job|--cfg job -p ${}
-cd inputs --cfg job"""


def anything() -> SearchStrategy[str]:
    """Any text that a shell can hand over, without a slash: it is written nowhere else."""
    letters = st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"])
    marks = [mark for mark in [*MARKS, *"=.,[]{}()$~+@"] if len(mark) == 1]
    return st.text(st.one_of(letters, st.sampled_from(marks)), max_size=30)


def values(known: Sequence[Any] = ()) -> SearchStrategy[str]:
    """What may stand behind ``=``; at times one that stands in a config file, or near it."""
    odd = [*NUMBERS, *WORDS, *REFERENCES, *SWEEPS, *PATHS, *LONG, *MARKS]
    plain = st.sampled_from(odd)
    ways = [plain, plain, st.sampled_from(NUMBERS), st.integers().map(str), st.floats().map(repr)]
    ways += [anything(), st.lists(plain, max_size=3).map(lambda items: f"[{','.join(items)}]")]
    ways += [st.builds("{}{}{}".format, plain, st.sampled_from(MARKS), plain)]
    ways += [plain.map(lambda value: f'"{value}"'), plain.map(lambda value: f"'{value}'")]
    if known:
        ways += [st.sampled_from([_typed(value) for value in known])] * 8
    return st.one_of(ways)


def _typed(value: Any) -> str:
    return (
        str({None: "null", True: "true", False: "false"}.get(value, value))
        if not isinstance(value, (list, dict))
        else re.sub(r"['\"]", "", str(value))
    )


def misspelt(word: str) -> SearchStrategy[str]:
    """The word, at times with a letter too much, too few, or something before or behind it."""
    places = st.integers(0, max(0, len(word) - 1))
    return st.one_of(
        *[st.just(word)] * 12,
        places.map(lambda at: word[:at] + word[at + 1 :]),
        st.builds(lambda at, mark: word[:at] + mark + word[at:], places, st.sampled_from(MARKS)),
        st.sampled_from(
            [f"{word}.x", f"{word}.", f".{word}", f"{word}@x", f"{word}@a.b:c", word[::-1]]
        ),
        st.sampled_from([word.replace(".", "/"), word.upper(), word * 40, word.partition(".")[0]]),
    )


class Grammar:
    """The strategies, of the configs that are there now.

    ``options`` are what each command takes, by its name; see :func:`options_in`.
    """

    def __init__(self, options: Mapping[str, Sequence[str]]) -> None:
        self.options = options
        self.choices: dict[str, list[str]] = {}
        self.keys: dict[str, list[Any]] = {"seed": [0, 1], "device": ["cpu"], "name": ["x"]}
        self.keys |= {"init_from": [None], "output_dir": ["outputs", "elsewhere"]}
        for group in composition.all_groups():
            found = composition.choices(group)
            self.choices[group] = list(found)
            for text in found.values():
                node = yaml.safe_load(text) or {}
                inside = "" if "@package _global_" in text else group.replace("/", ".")
                for key, value in _leaves(node, inside):
                    if not key.startswith("defaults"):
                        self.keys.setdefault(key, []).append(value)

    def override(self) -> SearchStrategy[str]:
        """One word that sets, adds or takes out a key, or chooses a file."""
        return st.one_of(self._choice(), self._key(), self._key(), self._key(), self._any())

    def _choice(self) -> SearchStrategy[str]:
        def of(group: str) -> SearchStrategy[str]:
            there = st.sampled_from(self.choices[group])
            several = st.lists(there, max_size=3).map(lambda names: f"[{','.join(names)}]")
            value = st.one_of(there, there, there, there.flatmap(misspelt), several, values())
            return st.builds("{}{}={}".format, _prefix(), misspelt(group), value)

        return st.sampled_from(sorted(self.choices)).flatmap(of)

    def _key(self) -> SearchStrategy[str]:
        def of(key: str) -> SearchStrategy[str]:
            pair = st.builds("{}{}={}".format, _prefix(), misspelt(key), values(self.keys[key]))
            return st.one_of(*[pair] * 9, misspelt(key).map(lambda name: f"~{name}"))

        return st.sampled_from(sorted(self.keys)).flatmap(of)

    def _any(self) -> SearchStrategy[str]:
        own = words(
            """hydra.job.chdir hydra.run.dir hydra.mode hydra/launcher hydra.verbose hydra
            hydra/job_logging hydra.job.name hydra.sweeper.params hydra/sweeper"""
        )
        pairs = st.builds("{}={}".format, st.sampled_from(own), st.sampled_from([*NUMBERS, *WORDS]))
        gone = st.sampled_from(own).map(lambda key: f"~{key}")
        return st.one_of(pairs, gone, anything(), st.builds("{}={}".format, anything(), values()))

    def overrides(self, most: int = 4) -> SearchStrategy[Line]:
        """A few of them; mostly of parts that are quickly made."""
        quick = st.sampled_from([[], ["model=mlp"], ["data=iris", "model=logreg"], ["data=moons"]])
        rest = st.lists(self.override(), max_size=most)
        return st.builds(lambda first, more: [*first, *more], quick, rest)

    def training(self) -> SearchStrategy[Line]:
        """``dltrain key=value …``, whose run is kept short."""
        limits = ["trainer.steps=2", "callbacks=none", "device=cpu"]
        first = st.sampled_from([[], [], ["train"]])
        kept = st.sampled_from([limits, limits, limits, [*limits, "data.limit=40"]])
        return st.builds(lambda a, b, c: [*a, *b, *c], first, self.overrides(), kept)

    def query(self) -> SearchStrategy[Line]:
        """``--cfg`` and Hydra's other questions; and our own."""
        asked = ASKED.replace("\n", "|").split("|")
        more = self.overrides(3)
        return st.builds(lambda first, rest: [*first.split(), *rest], st.sampled_from(asked), more)

    def command(self, name: str) -> SearchStrategy[Line]:
        """``dltrain NAME …`` with what it takes, and what it does not."""

        def given(option: str) -> SearchStrategy[Line]:
            name, _, metavar = option.partition(" ")
            shown = misspelt(name)
            if not metavar:
                return shown.map(lambda word: [word])
            named = re.findall(r"[\w-]+", metavar) if "{" in metavar else []
            value = values([*named, 1, "x", "elsewhere/x.png"])
            pair = st.builds(lambda word, v: [word, v], shown, value)
            joined = st.builds(lambda word, v: [f"{word}={v}"], shown, value)
            return st.one_of(pair, pair, joined, shown.map(lambda word: [word]))

        options = self.options[name]
        parts: list[SearchStrategy[Line]] = [anything().map(lambda word: [word])]
        parts += [st.sampled_from(options).flatmap(given)] * 4 if options else []
        if "RUN" in COMMANDS[name].arguments:
            parts += [st.sampled_from(RUNS).map(lambda run: [run])] * 3
        if "INPUT" in " ".join(options) or name in ("predict", "export", "new", "list", "help"):
            parts += [st.sampled_from([*PATHS, *COMMANDS, *self.choices]).map(lambda p: [p])] * 2
        if "=" in COMMANDS[name].arguments or name in ("profile", "evaluate"):
            parts += [self.override().map(lambda word: [word])] * 3
        run = st.sampled_from(RUNS[:4]).map(lambda run: [run])
        first = run if "RUN" in COMMANDS[name].arguments else st.just([])
        rest = st.lists(st.one_of(parts), max_size=4)
        line = st.builds(lambda a, b: [name, *a, *(w for part in b for w in part)], first, rest)
        # One that waits for requests never ends, and one that searches begins other processes.
        ends = {"serve": ["--port", "99999999"], "tune": ["--trials", "0"], "tour": ["0"]}
        short = {"profile": ["--steps", "1", "--warmup", "0"], "lr-find": ["--steps", "2"]}
        return line.map(lambda words: [*words, *ends.get(name, ()), *short.get(name, ())])

    def line(self) -> SearchStrategy[Line]:
        """What follows ``dltrain``."""
        commands = [self.command(name) for name in sorted(COMMANDS) if name != "train"]
        odd = st.lists(anything(), max_size=3)
        return st.one_of(*[self.training()] * 6, *[self.query()] * 6, *commands, odd).filter(
            lambda line: all("\0" not in word for word in line)
        )


def _prefix() -> SearchStrategy[str]:
    return st.sampled_from([*[""] * 10, "+", "++", "~"])


def _leaves(node: Any, above: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        dot = f"{above}." if above else ""
        return [leaf for key, value in node.items() for leaf in _leaves(value, f"{dot}{key}")]
    return [(above, node)] if above else []


def options_in(help_text: str) -> list[str]:
    """The options of a command, from its help: ``--name``, or ``--name VALUE``."""
    found = []
    for match in OPTION.finditer(help_text):
        found += re.split(r", (?=-)", match[1])
    return [option for option in found if option not in ("-h", "--help")]
