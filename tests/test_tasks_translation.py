"""Translation: its loss, its search, its scores, and what it says of other data."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.pieces import sentence_of
from dltrain.contracts.task import Phase
from dltrain.core.evaluate import Position
from dltrain.errors import UserError
from dltrain.inference.answers import Answers
from dltrain.metrics.translation import TokenLoss, TranslationScores
from dltrain.models.mlp import MLP
from dltrain.tasks.beam import Search, search
from dltrain.tasks.translation import Translation
from tests.specs import images, pairs
from tests.test_models_seq2seq import SOURCE, SPEC, TARGET, made

END = 3


class Optimizing:
    """Keeps what it is asked to minimize."""

    def __call__(self, loss: Any, name: str = "model", weight: Any = None) -> None:
        self.loss, self.weight = loss, weight


def ended() -> Tensor:
    """Targets with their ends."""
    target = functional.pad(TARGET, (0, 1))
    return target.scatter(1, (target != 0).sum(1, keepdim=True), END)


def task(name: str = "luong", **settings: Any) -> Translation:
    return Translation(made(name), SPEC, **settings).eval()


def position(final: bool) -> Position:
    return Position(0, 0, final, torch.arange(3), 0)


def test_the_loss_is_the_mean_over_tokens_of_all_texts() -> None:
    one, optimize = task(label_smoothing=0.0), Optimizing()
    batch = {"input": SOURCE, "target": ended()}
    metrics = one.train_step(batch, optimize)
    alone = []
    for row, length in enumerate([6, 4, 3]):
        target = ended()[row : row + 1, :length]
        before = functional.pad(target[:, :-1], (1, 0), value=2)
        logits = one.model(SOURCE[row : row + 1], before)
        alone.append(functional.cross_entropy(logits[0], target[0], reduction="sum"))

    torch.testing.assert_close(optimize.loss, torch.stack(alone).sum() / 13)
    assert optimize.weight == 13
    assert float(metrics["tokens"]) == pytest.approx(13 / 3)  # type: ignore[arg-type]
    with torch.no_grad():
        outputs = one.eval_step(batch, position(False))
    torch.testing.assert_close(outputs["nll"], torch.stack(alone).detach())
    metric = TokenLoss()
    metric.update(outputs, batch, torch.arange(3))
    assert metric.compute().scalars["perplexity"] == pytest.approx(
        math.exp(float(optimize.loss.detach()))
    )


def brute(model: Any, source: Tensor, how: Search, longest: int) -> tuple[list[int], float]:
    """The best of all sequences."""
    best: tuple[list[int], float] = ([], -math.inf)
    tokens = [n for n in range(6) if n not in (how.pad, how.begin, how.end)]
    for length in range(longest):
        all_of_them = torch.tensor(list(itertools.product(tokens, repeat=length))).long()
        before = functional.pad(all_of_them, (1, 0), value=how.begin)
        after = functional.pad(all_of_them, (0, 1), value=how.end)
        memory = {
            name: c.expand(len(after), *c.shape[1:]) for name, c in model.encode(source).items()
        }
        chances = model.decode(memory, before)[0].log_softmax(2)
        totals = chances.gather(2, after[:, :, None]).sum((1, 2))
        scores = totals / ((5 + length + 1) / 6) ** how.length_penalty
        place = int(scores.argmax())
        best = max(
            best, (all_of_them[place].tolist(), float(scores[place])), key=lambda one: one[1]
        )
    return best


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("name", ["bahdanau", "transformer"])
def test_a_wide_beam_finds_the_best_of_all_sequences(name: str, penalty: float) -> None:
    model = made(name, pairs(12, 6))
    how = Search(2, END, 0, beam=200, length_penalty=penalty, longest=0.0, least=4)

    ids, scores = search(model, SOURCE, how)

    for row in range(3):
        with torch.no_grad():
            written, score = brute(model, SOURCE[row : row + 1], how, 4)
        assert [n for n in ids[row].tolist() if n] == written
        assert float(scores[row]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", ["luong", "lstm", "transformer"])
def test_what_is_found_does_not_depend_on_the_batch(name: str, beam: int) -> None:
    model, how = made(name), Search(2, END, 0, beam=beam, least=3)
    ids, scores = search(model, SOURCE, how)

    for row, length in enumerate([7, 1, 4]):
        alone, score = search(model, SOURCE[row : row + 1, :length], how)
        own = ids[row, : alone.shape[1]]
        assert torch.equal(own, alone[0])
        assert not ids[row, alone.shape[1] :].any()
        torch.testing.assert_close(scores[row], score[0])


def test_greedy_search_takes_the_likeliest_token_each_time() -> None:
    model = made("bahdanau")
    ids, _ = search(model, SOURCE[:1], Search(2, END, 0, beam=1, least=3))
    memory, before = model.encode(SOURCE[:1]), [2]
    for _ in range(2 * 7 + 3 - 1):
        logits = model.decode(memory, torch.tensor([before]))[0][0, -1]
        logits[[0, 2]] = -torch.inf
        if int(logits.argmax()) == END:
            break
        before.append(int(logits.argmax()))

    assert ids[0].tolist() == before[1:]


def test_predictions_are_texts_with_a_score() -> None:
    answers = Answers(task(beam=2).predict({"input": SOURCE}))

    assert answers.columns == ["translation", "score"]
    ids = answers.tensors["translation"]
    assert answers["translation"] == [sentence_of(SPEC.target.names, row) for row in ids.tolist()]
    joined = Answers.joined([answers, Answers(task(beam=2).predict({"input": SOURCE[:1]}))])
    assert len(joined) == 4


def test_each_translation_has_a_map_of_its_attention() -> None:
    one = task(beam=2)
    answers = Answers(one.predict({"input": SOURCE}))

    maps = one.attention({"input": SOURCE}, answers.tensors)

    assert [len(one.read) for one in maps] == [7, 1, 4]
    for found, ids in zip(maps, answers.tensors["translation"], strict=True):
        assert found.weights.shape == (int((ids != 0).sum()), len(found.read))
        torch.testing.assert_close(found.weights.sum(1), torch.ones(len(found.weights)))


def test_the_test_split_is_searched_with_a_beam_too() -> None:
    batch, rows = {"input": SOURCE, "target": ended()}, torch.arange(3)
    names = {}
    for final in (False, True):
        one = task(beam=2)
        found: dict[str, float] = {}
        with torch.no_grad():
            outputs = one.eval_step(batch, position(final))
        for metric in one.metrics(final):
            metric.update(outputs, batch, rows)
            evaluation = metric.compute()
            found |= evaluation.scalars
            for draw in evaluation.figures.values():
                assert draw().axes
        names[final] = set(found)

    assert names[False] == {"loss", "perplexity", "bleu", "chrf"}
    assert names[True] - names[False] == {"beam_bleu", "beam_chrf"}


def test_scores_are_sacrebleus_on_whole_texts() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    names = ("<pad>", "<unk>", "<s>", "</s>", "▁the", "▁dog", "▁runs", "▁fast", ".", "▁cat")
    said = torch.tensor([[4, 5, 6, 7, 8], [4, 9, 6, 8, 0]])
    meant = torch.tensor([[4, 5, 6, 7, 8, 3], [4, 5, 6, 8, 3, 0]])
    halves = [TranslationScores("greedy", names, 0, "auto") for _ in range(2)]
    for row, half in enumerate(halves):
        part = slice(row, row + 1)
        half.update({"greedy": said[part]}, {"target": meant[part]}, torch.tensor([1 - row]))
    halves[0].merge(halves[1])
    evaluation = halves[0].compute()

    texts = ["the cat runs.", "the dog runs fast."], [["the dog runs.", "the dog runs fast."]]
    assert evaluation.scalars["bleu"] == pytest.approx(sacrebleu.corpus_bleu(*texts).score)
    assert evaluation.scalars["chrf"] == pytest.approx(sacrebleu.corpus_chrf(*texts).score)
    assert "tok:13a" in str(evaluation.tables["scores"].rows)


def test_chinese_words_are_characters() -> None:
    pytest.importorskip("sacrebleu")
    names = ("<pad>", "<unk>", "<s>", "</s>", "▁我", "爱", "你", "。", "他")
    metric = TranslationScores("greedy", names, 0, "auto")
    metric.update(
        {"greedy": torch.tensor([[4, 5, 6, 7]])},
        {"target": torch.tensor([[4, 5, 6, 7, 3]])},
        torch.tensor([0]),
    )

    evaluation = metric.compute()
    assert evaluation.scalars["bleu"] == pytest.approx(100)
    assert "tok:zh" in str(evaluation.tables["scores"].rows)


def test_without_sacrebleu_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)

    with pytest.raises(UserError, match=r"pip install 'dltrain\[translation\]'"):
        task().enter(Phase("train", 1))


def test_a_search_is_not_exported() -> None:
    with pytest.raises(UserError, match="export: translation searches"):
        task().exports({"input": SOURCE})


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"beam": 0}, {"length_penalty": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        task(**wrong)


def test_other_networks_and_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="model=seq2seq or model=transformer_seq2seq"):
        Translation(MLP(images(1, 2, 2).input.shape, 2), SPEC)  # type: ignore[arg-type]
