"""Runs of language models: trained, then written with by the command, and asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dltrain
from dltrain import cli
from dltrain import training as run
from dltrain.errors import ConfigError, UserError
from dltrain.runs.finding import latest
from tests.asking import assembled
from tests.conftest import Compose
from tests.making import trained

LINES = "to be or not to be\nthat is the question\n" * 30


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def overrides(text: Path, model: str) -> list[str]:
    size = "model.hidden_size=8" if model != "transformer" else "model.embedding_size=16"
    return [
        *(f"model={model}", "data=text_file", f"data.path={text}", "device=cpu", size),
        *("data.window=16", "data.batch_size=4", "trainer.epochs=1"),
    ]


@pytest.fixture
def folder(text: Path, compose: Compose, tmp_path: Path) -> Path:
    """A run of one epoch."""
    config = compose(*overrides(text, "lstm"), f"output_dir={tmp_path / 'outputs'}")
    config["callbacks"]["text_samples"] |= {"prompt": "to be", "length": 10}
    assert run.train(config)["status"] == "finished"
    return latest(tmp_path / "outputs")


Sample = Callable[..., str]


@pytest.fixture
def sample(folder: Path, capsys: pytest.CaptureFixture[str]) -> Sample:
    def asked(*arguments: str) -> str:
        assert cli.dispatch(["sample", str(folder), *arguments]) == 0
        return capsys.readouterr().out

    return asked


def test_a_run_is_used_by_every_command(
    folder: Path, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = (folder / "samples.txt").read_text(encoding="utf-8")
    assert written.startswith("==== step ") and written.count("\nto be") == 2
    results = dltrain.load(folder).summary["test"]
    assert set(results) == {"loss", "perplexity", "bits_per_character", "bits_per_byte"}

    capsys.readouterr()
    first = sample("--prompt", "to be", "--n", "30", "--top-k", "5", "--top-p", "0.9")
    assert first.startswith("to be") and len(first) == 5 + 30 + 1
    assert sample("--prompt", "to be", "--n", "30", "--top-k", "5", "--top-p", "0.9") == first
    assert sample("--n", "30", "--seed", "1") != sample("--n", "30")
    assert sample("--n", "5", "--count", "3").count("\n----\n") == 2
    out = tmp_path / "made" / "text.txt"
    assert str(out) in sample("--n", "5", "--out", str(out))
    assert len(out.read_text(encoding="utf-8")) == 6

    said: Any = dltrain.load(folder).predict(["to be", "xxxx"])
    assert said[0]["tokens"] == 5
    assert said[0]["loss"] < said[1]["loss"] or said[1]["tokens"] == 4

    for arguments, why in (
        (["--prompt", "到be"], "1 of 3 tokens, such as '到', are not in the run's vocabulary"),
        (["--prompt", "到", "--skip-unknown"], "Nothing is left of it"),
        # What a terminal of another encoding than UTF-8 hands over.
        (["--prompt", b"\xce\xd2".decode(errors="surrogateescape")], "--prompt is no UTF-8 text"),
        (["--temperature", "-1"], "--temperature must be a number >= 0"),
        (["--top-k", "0"], "--top-k must be at least 1"),
        (["--top-p", "2"], "--top-p must be above 0"),
        (["--n", "0"], "--n is from 1 to 100,000"),
        (["--label", "1"], "generates text"),
    ):
        with pytest.raises(UserError, match=why):
            cli.dispatch(["sample", str(folder), *arguments])
    assert cli.dispatch(["sample", str(folder), "--prompt", "到be", "--skip-unknown"]) == 0
    assert "they are left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="a language model is not exported"):
        cli.dispatch(["export", str(folder)])


def test_images_have_no_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", "tests")
    folder = trained(tmp_path, "trainer.steps=1")
    with pytest.raises(UserError, match="generates no text"):
        cli.dispatch(["sample", str(folder), "--prompt", "a"])


@pytest.mark.parametrize("model", ["gru", "rnn", "transformer"])
def test_every_model_is_made_of_a_text(model: str, text: Path, compose: Compose) -> None:
    parts = assembled(compose(*overrides(text, model), "callbacks=none"))
    assert type(parts.task).__name__ == "LanguageModel"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=attention"], "SelfAttention does not"),
        (["model=lstm", "model.pooling=max"], "pooling is no setting of a language model"),
        (["model=lstm", "callbacks.text_samples.top_p=2"], "top_p must be above 0"),
    ],
)
def test_what_no_model_of_language_can_be_is_refused_by_its_key(
    overrides: list[str], said: str, text: Path, compose: Compose
) -> None:
    with pytest.raises(ConfigError, match=said):
        assembled(compose("data=text_file", f"data.path={text}", "device=cpu", *overrides))


def test_a_transformer_is_refused_on_texts_with_a_class(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="data=text_file"):
        assembled(compose("model=transformer", "data=toy_reviews", "callbacks=none"))
