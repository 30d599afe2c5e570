"""Translation from the command to its answers: whole runs on a few pairs."""

from __future__ import annotations

import json

import pytest
import torch

from dltrain.cli import dispatch
from dltrain.errors import UserError
from dltrain.from_python import train
from dltrain.inference.figures import draw
from dltrain.inference.predictor import Part, Predictor
from tests.test_resume_matrix import draw_pairs

pytest.importorskip("sacrebleu")
DATA = ("data=parallel", "data.source=1", "data.target=2", "data.vocabulary_size=300")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """One on numbers in two languages."""
    folder = tmp_path_factory.mktemp("translation")
    draw_pairs(folder / "pairs.txt")
    return train(
        [
            *DATA,
            *("model=seq2seq", "model.embedding_size=24", "model.hidden_size=32"),
            *(f"data.path={folder / 'pairs.txt'}", "data.tokens_per_batch=100", "device=cpu"),
            *("trainer.epochs=20", "optimizer.lr=0.01", "trainer.evaluate_every=20"),
            *("modifier=average", "modifiers.average.count=2", f"output_dir={folder / 'runs'}"),
        ]
    )


def test_a_run_says_how_good_its_translations_are(run: Predictor) -> None:
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    found = summary["test"]

    assert set(summary["signatures"]) == {"bleu", "chrf", "beam_bleu", "beam_chrf"}
    assert "tok:13a" in summary["signatures"]["beam_bleu"]
    assert {"loss", "perplexity", "bleu", "chrf", "beam_bleu", "beam_chrf"} <= set(found)
    assert found["perplexity"] < 20
    assert "tok:13a" in (run.path / "tables" / "test_scores.csv").read_text(encoding="utf-8")
    shown = (run.path / "tables" / "test_translations.csv").read_text(encoding="utf-8")
    assert shown.startswith("text,translation,reference")
    assert (run.path / "figures" / "test_attention.png").is_file()


def test_its_folder_is_enough_to_translate(
    run: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    (answer,) = run.predict("eins zwei drei")

    assert set(answer) == {"translation", "score"}
    assert dispatch(["predict", str(run.path), "eins zwei drei", "vier vier vier"]) == 0
    assert answer["translation"] in capsys.readouterr().out


def test_what_cannot_be_done_with_it_is_one_line(run: Predictor) -> None:
    for typed, said in (
        (["export", str(run.path)], "export: translation searches"),
        (["predict", str(run.path), ""], "is empty: there is nothing to translate"),
    ):
        with pytest.raises(UserError, match=said):
            dispatch(typed)


def test_attention_is_drawn_of_translations_that_are_not_empty(run: Predictor) -> None:
    texts = ["eins zwei drei", "vier vier vier"]
    answers, batch = run.predict(texts), run.reader.read(texts)
    assert len(draw(run, [Part(texts, batch, answers)], 2).axes) == 2
    answers.tensors = {**answers.tensors, "translation": torch.zeros(2, 1, dtype=torch.int64)}
    with pytest.raises(UserError, match="every translation is empty"):
        draw(run, [Part(texts, batch, answers)], 2)
