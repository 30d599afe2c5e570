"""Command lines that nobody has thought of: a few by hand, and some of those of scripts/fuzz.py.

The proof in full is ``python scripts/fuzz.py --count 20000``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from torch import nn

from command_lines import Grammar, options_in
from dltrain import cli, mistakes
from dltrain.config import compose as composition
from dltrain.config.build import build
from dltrain.config.compose.grammar import parse
from dltrain.config.values import unusable
from dltrain.engine.memory import available_memory, network_within
from dltrain.errors import ConfigError, Fault, UserError, is_out_of_memory, printable, shortened
from fork_server import Outcome
from fuzz import faults_of, typed

GRAMMAR = Grammar({})
ONCE = settings(
    phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
FEW, MANY = settings(ONCE, max_examples=6), settings(ONCE, max_examples=120)


NO_FILE = "optimizer=null: there is no optimizer/null.yaml in configs. There are adagrad, adam,"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            [
                "optimizer=null",
                "modifier=null",
                "model=5",
                "callbacks=[[tensorboard]]",
                "task=${.}",
            ],
            [NO_FILE, "Did you mean 'none'?", "model/5.yaml", "a list of names", "task/${.}.yaml"],
        ),
        (["~hydra/job_logging"], ["hydra: Missing mandatory value"]),
        (["name=${nope}"], ["name: Interpolation key 'nope' not found"]),
        (["help", ""], ["no command and no group"]),
        (["model=mlp", "model.hidden=[1000000000]"], ["model.hidden is too large"]),
        (
            ["data.validation=1.0", "~seed", "model.dropout=1.0"],
            ["seed: expected an integer, got null."],
        ),
        (
            ["data.validation=1.0", "optimizer.betas=[0.9,2]"],
            [
                "data.validation is a fraction below 1 or a whole number",
                "optimizer.betas must be < 1, got 2",
            ],
        ),
        (["data.augment.shift=9"], ["data.augment.shift must be at most 8"]),
    ],
)
def test_a_mistake_is_told_by_its_key(
    line: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dltrain", *line])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.count("\n") == len(said), err
    for words in said:
        assert words in err


@FEW
@seed(0)
@given(GRAMMAR.overrides(2))
def test_what_does_not_compose_is_told_in_few_lines(line: list[str]) -> None:
    try:
        composition.check(line, multirun=False)
    except ConfigError as error:
        for told in mistakes.told(error):
            assert told.isprintable()
            assert len(told) <= 2500


@MANY
@seed(0)
@given(GRAMMAR.override())
def test_every_override_is_read_or_refused(line: str) -> None:
    overrides, faults = parse([line])
    assert len(overrides) + len(faults) == 1
    assert all(str(fault).isprintable() for fault in faults)


def test_the_fuzzer_sees_what_is_wrong() -> None:
    def kinds(code: int = 2, cpu: float = 0.1, out: str = "", err: str = "x", *made: str) -> str:
        return "; ".join(faults_of(["seed=1"], Outcome(code, cpu, out, err, list(made))))

    assert kinds() == ""
    assert kinds(0, 60, "Run outputs/x", "") == ""
    assert kinds(1, 0.1, "", "Traceback (most recent call last):\nKeyError: 'x'").startswith(
        "traceback: KeyError"
    )
    assert kinds(1, err="") == "exit code 1"
    assert kinds(-9) == "exit code -9"
    assert kinds(cpu=6).startswith("5 s of processor time")
    assert kinds(err="line\n" * 11) == "a message of more than 10 lines"
    assert kinds(err="") == "exit code 2 without a message"
    assert kinds(err="x" * 2001) == "a message of more than 2,000 characters"
    assert kinds(err="\x1b[31m") == "control characters in a message"
    assert kinds(0, 0.1, "", "", "work/outputs/a", "work/b") == "a file outside the run: work/b"
    assert typed(["a b", "\udcff\x1b'"]) == r"dltrain 'a b' $'\xff\x1b\x27'"
    assert options_in("options:\n  -h, --help  x\n  --out FILE  y\n  --all\n") == [
        "--out FILE",
        "--all",
    ]


@pytest.mark.parametrize(
    ("value", "must"),
    [
        (float("nan"), "a finite number"),
        ([1.0, float("-inf")], "a finite number"),
        ({"a": float("inf")}, "a finite number"),
        (1e308, "a number that float32 holds, within 3.4e38"),
        (2**63, "below 2**63"),
        (2**63 - 1, ""),
        (True, ""),
        ("nan", ""),
        (-3.0e38, ""),
    ],
)
def test_a_number_that_cannot_be_computed_with(value: object, must: str) -> None:
    assert unusable(value) == must


def test_a_message_is_short_and_printable() -> None:
    fault = Fault(
        "k" * 3000, "expected a number, got " + "x" * 3000, "See \x1b[31mthis\n" + "h" * 9000
    )
    assert len(str(fault)) < 2600
    assert str(fault).isprintable()
    assert printable("a\x1b\n\udcff") == r"a\x1b\n\udcff"
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened("a" * 6 + "b" * 6, 4) == "aa … 8 letters … bb"
    many = ConfigError([Fault(f"key{n}", "is wrong.") for n in range(30)])
    told = mistakes.told(many)
    assert len(told) == 10
    assert told[-1] == "And 21 more, which are told when these are mended."


def test_a_network_is_built_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dltrain.engine.memory.MOST_PARTS", 20)
    before = torch.get_rng_state()
    for made in (
        lambda: nn.Linear(10**5, 10**4),  # which would be given, and touched
        lambda: nn.Sequential(*(nn.ReLU() for _ in range(21))),
        lambda: nn.Linear(10**9, 10**9),
        lambda: nn.Linear(2**62, 1),
        lambda: nn.Linear(2**63, 1),
    ):
        with pytest.raises((UserError, RuntimeError, TypeError)) as caught, network_within(10**9):
            made()
        assert is_out_of_memory(caught.value)
    assert torch.equal(torch.get_rng_state(), before)
    with network_within(10**9):
        nn.Linear(8, 8)
    nn.Linear(2, 2)  # nothing is counted any more
    assert available_memory() > 10**6
    assert not is_out_of_memory(RuntimeError("a bug"))


def test_of_what_is_too_large_the_largest_number_is_named() -> None:
    node = {"_target_": "torch.nn.Linear", "in_features": 7, "out_features": 10**15}
    with pytest.raises(ConfigError, match=r"^m\.out_features is too large: m asks for more memory"):
        build(node, nn.Module, "m")


def test_what_a_library_refuses_in_its_own_way_is_a_fault() -> None:
    node = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": -1}
    with pytest.raises(ConfigError, match=r"^model"):  # a RuntimeError of torch's
        build(node, nn.Module, "model")
