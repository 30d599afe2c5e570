"""What a message prints can be pasted into a shell, and says what was meant."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dltrain.cli import dispatch, main
from dltrain.config.punctuation import with_quotes
from dltrain.config.quoting import override
from dltrain.runs.finding import latest

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


def outcome(typed: list[str]) -> int:
    """The exit code of a command line that is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["dltrain", *typed])
        with pytest.raises(SystemExit) as end:
            main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_from_shell_and_grammar(text: str) -> None:
    assert read(override("data.target", text)) == text
    assert read(override("data.features", [text, "x", text])) == [text, "x", text]


def test_so_do_texts_that_nobody_thought_of() -> None:
    draw = random.Random(0)
    alphabet = "ab1 .,:=\\\\\\'\"$${}[]()~#é\n"
    for _ in range(200):
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


@pytest.mark.parametrize(
    "shown",
    [
        # What the grammar cannot read.
        {
            "data.target=price ($)": """'data.target="price ($)"'""",
            "data.root=x=y": """'data.root="x=y"'""",
            "name=it's": """'name="it'"'"'s"'""",
            "data.path=~/a.csv": """'data.path="~/a.csv"'""",
            "data.features=[price ($),2,x]": """'data.features=["price ($)", "2", x]'""",
        },
        # What it reads as something else than the key takes.
        {
            "data.target=1e3": """'data.target="1e3"'""",
            "data.root=True": """'data.root="True"'""",
            "++data.path=null": """'++data.path="null"'""",
            "data.features=[1,true,x]": """'data.features=["1", "true", x]'""",
        },
        {"data.target=a, b": """'data.target="a, b"'"""},
    ],
)
def test_a_refusal_prints_the_override_that_works(
    shown: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["data=csv", "model=linreg", "data.path=a.csv", *shown]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(shown)
    for typed, whole in shown.items():
        key, _, value = typed.lstrip("+").partition("=")
        [line] = [line for line in lines if line.startswith(f"dltrain: {key}: ")]
        assert whole in line
        found = read(whole)
        assert found == value or ", ".join(found) in value.replace(",", ", ")


def test_a_word_that_a_blank_has_cut_off_is_told_with_what_stood_before_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert outcome(["data=csv", "data.target=price", "tag"]) == 2
    assert """'data.target="price tag"'""" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("性别", "性别"),
        ("[猫, 狗,x]", ["猫", "狗", "x"]),
        ("身高 (cm)", "身高 (cm)"),
        ("数据/{000..127}.tar", "数据/{000..127}.tar"),
        ("说话人=张三", "说话人=张三"),
        (r"C:\数据\a.csv", r"C:\数据\a.csv"),
        ("~/café/naïve.csv", "~/café/naïve.csv"),
    ],
)
def test_letters_of_any_alphabet_need_no_quotes(typed: str, value: Any) -> None:
    [line] = with_quotes([f"key={typed}"])
    assert read(shlex.quote(line)) == value


@pytest.mark.parametrize(
    "typed",
    ["choice(猫,狗)", "{猫: 1}", "'猫'", r"猫\,狗", "猫${seed}", "[[猫]]", "猫\\", "a", "[1,b]"],
)
def test_what_may_mean_something_else_is_left_as_it_is(typed: str) -> None:
    assert with_quotes([f"key={typed}"]) == [f"key={typed}"]


def test_commands_take_letters_of_any_alphabet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{150 + i},{i % 2},{'男女'[i % 2]}" for i in range(40)]
    (tmp_path / "数据.csv").write_text("\n".join(["身高,体重,性别", *rows]), encoding="utf-8")
    typed = ["model=mlp", "data=csv", f"data.path={tmp_path / '数据.csv'}", "data.target=性别"]
    more = ["trainer.steps=1", "callbacks=none", f"output_dir={tmp_path / 'outputs'}", "device=cpu"]

    assert dispatch([*typed, *more, "data.features=[身高]"]) == 0
    assert (
        dispatch(
            [
                "evaluate",
                str(latest(tmp_path / "outputs")),
                "data.path=数据.csv",
                f"data.root={tmp_path}",
            ]
        )
        == 0
    )
    assert dispatch(["config", *typed]) == 0
    assert "target: 性别" in capsys.readouterr().out
    assert dispatch([*typed, "-m", *more, "data.target=性别,体重"]) == 0
