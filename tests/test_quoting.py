"""What a message prints can be pasted into a shell, and says what was meant."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dltrain.config.quoting import command, override

TEXTS = [
    *("price", "price ($)", "x=y", "a, b", "1", "1.0", "1e3", "-1", "007", "1_000", "true", "Null"),
    *("nan", "inf", "", " ", " a ", "it's", 'say "hi"', "both ' and \"", "a:b", "[1]", "{a: 1}"),
    *("f(x)", "猫", "café", "~/data/a.csv", "/home/José/a b.csv", r"C:\data\new.csv", "back\\"),
    *('\\"', "\\'", "a#b", "a!b", "a;b&c|d", "<5k", "*", "?", "50%", "$HOME", "`ls`", "$(ls)"),
    *("${seed}", r"\${seed}", r"\\${seed} \\", "${", "$${x}", "two\nlines", "tab\there", "^_"),
    *("# comment", "a.b.c", "0x1F", "a-b", "-", "--help", "/", "hello world", "@a", "a@b"),
]


def read(word: str) -> Any:
    """The value that a run gets of a shell's word ``key=value``."""
    [typed] = shlex.split(word)
    [parsed] = OverridesParser.create().parse_overrides([typed])
    config = OmegaConf.create({"value": parsed.value()})
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return found["value"]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_from_shell_and_grammar(text: str) -> None:
    assert read(override("data.target", text)) == text
    assert read(override("data.features", [text, "x", text])) == [text, "x", text]


def test_so_do_texts_that_nobody_thought_of() -> None:
    draw = random.Random(0)
    alphabet = "ab1 .,:=\\\\\\'\"$${}[]()~#é\n"
    for _ in range(1000):
        text = "".join(draw.choices(alphabet, k=draw.randint(1, 8)))
        assert read(override("data.target", text)) == text, repr(text)


@pytest.mark.parametrize(
    "value", [None, True, 3, -1.5, 1e-7, [1, None, "1"], {"a b": [1], "c$": 2}]
)
def test_so_do_other_values(value: Any) -> None:
    found = read(override("key", value))
    assert found == value
    assert type(found) is type(value)


def test_what_needs_no_quotes_has_none() -> None:
    assert override("data.path", Path("my/table-2.csv")) == "data.path=my/table-2.csv"
    assert override("data.target", "price ($)") == """'data.target="price ($)"'"""
    assert override("data.features", ["a", "b"]) == "'data.features=[a, b]'"


def test_a_mapping_cannot_have_every_key() -> None:
    with pytest.raises(ValueError, match="'猫' cannot be a mapping's key"):
        override("task.class_weights", {"猫": 2})


def test_a_command_is_quoted_word_by_word() -> None:
    assert command("dltrain", "resume", Path("my runs/1")) == "dltrain resume 'my runs/1'"
