"""Recommenders: their formulas, how items are ranked, and runs from end to end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dltrain
from dltrain.commands.predict import predict
from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.core.evaluate import Position
from dltrain.errors import UserError
from dltrain.metrics.ranking import Cold, Ranking
from dltrain.models.mlp import MLP
from dltrain.models.recommending.factorization import MatrixFactorization
from dltrain.models.recommending.neumf import NeuMF
from dltrain.tasks.ranking import RankItems
from dltrain.tasks.rating import Rating
from tests.conftest import Train

USERS, ITEMS = 5, 7


def spec(pairs: int = 9) -> DataSpec:
    names = tuple(map(str, range(ITEMS + 1)))
    return DataSpec(
        {
            "user": Field((), "category", "input", USERS + 1, counts=(0, pairs, 0, 0, 0, 0)),
            "item": Field((), "category", "input", ITEMS + 1, names),
            "target": Field((1,), "number", "target", mean=(3.0,), std=(2.0,), low=(1,), high=(5,)),
        }
    )  # fmt: skip


def pairs(count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(USERS * ITEMS, generator=generator)[:count]
    return chosen // ITEMS + 1, chosen % ITEMS + 1


def test_svd_plus_plus_is_its_formula_and_has_its_gradient() -> None:
    user, item = pairs()
    model = MatrixFactorization(spec(), factors=3, implicit=True, dropout=0.0).double()
    model.rated_by(user, item)
    rated = torch.zeros(USERS + 1, ITEMS + 1, dtype=torch.float64)
    rated[user, item] = 1
    rated /= rated.sum(1, keepdim=True).clamp_min(1).sqrt()

    vectors = model.user_vectors.weight + rated @ model.rated_vectors.weight
    wanted = vectors @ model.item_vectors.weight.T

    found = model.score_all(torch.arange(USERS + 1))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    weight = model.rated_vectors.weight
    (own,) = torch.autograd.grad(found.square().sum(), weight)
    (true,) = torch.autograd.grad(wanted.square().sum(), weight)
    torch.testing.assert_close(own[1:], true[1:], rtol=1e-6, atol=1e-6)
    assert not own[0].any()
    everything = torch.arange(ITEMS + 1).expand(2, -1)
    torch.testing.assert_close(model.score(torch.tensor([1, 4]), everything), found[[1, 4]])


@pytest.mark.parametrize("kind", [MatrixFactorization, NeuMF])
def test_all_items_are_scored_as_pairs_are_and_ratings_keep_to_their_bounds(kind: Any) -> None:
    model = kind(spec()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
        user = torch.tensor([0, 3, 5])
        found = model.score_all(user)
        torch.testing.assert_close(model.score(user, torch.arange(8).expand(3, -1)), found)
        ratings = model(user.repeat(3), torch.arange(9) % 8) * 2 + 3
    assert ratings.shape == (9, 1)
    assert (ratings >= 1 - 1e-6).all() and (ratings <= 5 + 1e-6).all()


def test_a_network_that_knows_nothing_answers_the_mean() -> None:
    model = MatrixFactorization(spec(), init_std=0.0)

    assert model(torch.tensor([1]), torch.tensor([2])).item() == pytest.approx(0.0, abs=1e-6)


def test_nobody_and_nothing_are_answered_by_the_biases_of_the_other() -> None:
    model = MatrixFactorization(spec()).eval()
    with torch.no_grad():
        model.item_biases[2] = 1.5

    assert model.score(torch.tensor([0]), torch.tensor([[2, 0]])).tolist() == [[1.5, 0.0]]


def test_ranks_leave_out_what_a_user_has() -> None:
    task = RankItems(MatrixFactorization(spec()), spec(), cutoffs=[2])
    stream = [{"user": torch.tensor([1, 1, 2]), "item": torch.tensor([7, 6, 1])}]
    task.trained.fill({"train": Plain(stream)}, ["train"])  # type: ignore[dict-item]
    scores = torch.arange(8.0).repeat(3, 1)
    batch = {"user": torch.tensor([1, 2, 1]), "item": torch.tensor([4, 4, 0])}

    assert task.ranks(scores, batch, final=False)["rank"].tolist() == [1, 3, 5]


class Plain:
    """Some batches."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def plain(self) -> Any:
        return iter(self._batches)


def test_users_whom_training_did_not_have_are_no_single_user() -> None:
    metric = Ranking([2])
    batch = {"user": torch.tensor([0, 3, 0, 0])}
    metric.update({"rank": torch.tensor([0, 5, 9, 9])}, batch, torch.arange(4))
    assert metric.compute().scalars["hit_rate@2"] == pytest.approx(1 / 4)

    task = RankItems(MatrixFactorization(spec()), spec())
    stream = [{"user": torch.tensor([1, 0]), "item": torch.tensor([7, 6])}]
    task.known.fill({"validation": Plain(stream)}, ["validation"])  # type: ignore[dict-item]
    asked = {"user": torch.tensor([0]), "item": torch.tensor([4])}
    assert task.ranks(torch.arange(8.0)[None], asked, final=True)["rank"].tolist() == [3]


def test_hit_rate_recall_and_ndcg_are_means_over_users() -> None:
    metric = Ranking([2])
    batch = {"user": torch.tensor([3, 3, 3, 8])}
    metric.update({"rank": torch.tensor([0, 1, 9, 5])}, batch, torch.arange(4))

    found = metric.compute().scalars

    assert found["hit_rate@2"] == 0.5
    assert found["recall@2"] == pytest.approx(1 / 3)
    assert found["ndcg@2"] == pytest.approx(0.5)  # the best order of the first user
    assert found["mrr"] == pytest.approx((1 + 1 / 6) / 2)


@pytest.mark.parametrize("kind", [lambda: Ranking([2, 3]), Cold])
def test_what_parts_of_a_split_say_is_merged(kind: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    names, most = ("user", "item", "rank"), (4, 3, 9)
    columns = {n: torch.randint(m, (20,), generator=draw) for n, m in zip(names, most, strict=True)}
    whole, *parts = kind(), kind(), kind()
    whole.update(columns, columns, torch.arange(20))
    for part, rows in zip(parts, torch.arange(20).split(13), strict=True):
        batch = {name: column[rows] for name, column in columns.items()}
        part.update(batch, batch, rows)
    parts[0].merge(parts[1])

    assert parts[0].compute().scalars == pytest.approx(whole.compute().scalars)


def test_items_of_one_user_with_the_same_rank_stand_behind_each_other() -> None:
    metric = Ranking([2])
    batch = {"user": torch.tensor([4, 4, 1, 4])}
    metric.update({"rank": torch.tensor([0, 0, 1, 0])}, batch, torch.arange(4))

    found = metric.compute().scalars

    assert found["recall@2"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["ndcg@2"] == pytest.approx((1 + 1 / math.log2(3)) / 2)


def test_items_are_ranked_in_full_precision() -> None:
    task = RankItems(MatrixFactorization(spec()).eval(), spec())
    draw = torch.Generator().manual_seed(0)
    stream = [{"user": torch.tensor([2]), "item": torch.tensor([1])}]
    task.opened({"train": Plain(stream)})  # type: ignore[dict-item]
    user = torch.randint(1, USERS + 1, (9,), generator=draw)
    batch = {"user": user, "item": torch.randint(1, ITEMS + 1, (9,), generator=draw)}
    given = Position(0, 0, final=False, rows=torch.arange(9), position=0)

    found = task.eval_step(batch, given)["rank"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task.eval_step(batch, given)["rank"], found)


def test_a_score_that_is_no_number_ranks_last() -> None:
    task = RankItems(MatrixFactorization(spec()), spec())
    stream = [{"user": torch.tensor([2]), "item": torch.tensor([1])}]
    task.trained.fill({"train": Plain(stream)}, ["train"])  # type: ignore[dict-item]
    scores = torch.full((1, 8), torch.nan)
    batch = {"user": torch.tensor([1]), "item": torch.tensor([4])}

    assert task.ranks(scores, batch, final=False)["rank"].tolist() == [6]
    with pytest.raises(UserError, match="on its own data alone"):  # of another nobody knows
        task.ranks(scores, batch, final=True)


def test_an_ndcg_is_discounted_by_the_place() -> None:
    metric = Ranking([10])
    metric.update({"rank": torch.tensor([2])}, {"user": torch.tensor([1])}, torch.arange(1))

    assert metric.compute().scalars["ndcg@10"] == pytest.approx(1 / math.log2(4))


@pytest.mark.parametrize("task", [Rating, RankItems])
def test_another_network_is_refused(task: Any) -> None:
    with pytest.raises(ValueError, match="scores users and items"):
        task(MLP((2,), 1), spec())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"factors": 0}, "factors"),
        ({"dropout": 1.0}, "dropout"),
        ({"implicit": True, "sparse": True}, "sparse"),
    ],
)
def test_impossible_arguments_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MatrixFactorization(spec(), **settings)


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """Two groups of users who like other items."""
    draw = np.random.default_rng(0)
    lines = []
    for user in range(20):
        for item in draw.permutation(16)[:11]:
            value = 4 + draw.integers(2) if (user % 2) == (item % 2) else 1 + draw.integers(2)
            lines.append(f"u{user},i{item},{value},{draw.integers(1000)}")
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,time\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "titles.csv").write_text(
        "item,title\n" + "".join(f'i{n},"Film {n}, the"\n' for n in range(16)), encoding="utf-8"
    )
    return path


def test_ratings_are_learned_and_a_user_is_recommended_what_it_likes(
    rated: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(
        *("data=ratings", f"data.path={rated}", f"data.titles={rated.parent / 'titles.csv'}"),
        *("model=matrix_factorization", "model.implicit=true", "model.factors=4"),
        *("optimizer.lr=0.05", "data.batch_size=16", "callbacks=recommender_baseline"),
    )
    test = found.summary["test"]

    assert test["rmse"] < 0.9 < test["baseline_biases_rmse"]
    run = dltrain.load(found.folder)
    best = run.recommend("u4", 3)
    assert list(best) == ["item", "title", "rating"]
    assert all(int(name[1:]) % 2 == 0 for name in best["item"][:2])
    assert best["title"][0] == f"Film {best['item'][0][1:]}, the"
    seen = {line.split(",")[1] for line in rated.read_text().splitlines() if line.startswith("u4,")}
    everything = run.recommend("u4", 99)["item"]
    assert len(set(everything)) == len(everything)
    (row,) = run.predict([{"user": "u4", "item": "i2"}])
    assert 3.5 < row["prediction"] <= 5
    assert len(everything) + len(seen) <= 16 + 4  # of the test split it knows nothing

    capsys.readouterr()
    assert predict([str(found.folder), "--user", "u4", "--n", "2", "--csv"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "item,title,rating"
    assert len(printed) == 3
    assert predict([str(found.folder), "--user", "who", "--n", "1"]) == 0
    assert "'who' is nobody that training had" in capsys.readouterr().err
    assert predict([str(found.folder), "--user", "u4", "--n", "99"]) == 0
    assert "has all items but these" in capsys.readouterr().err
    for words, said in (
        (["--user", "u4", "x.csv"], "not both"),
        (["x.csv", "--n", "3"], "--n is of"),
        (["--user", "u4", "--n", "0"], "--n is a whole number"),
        (["--user", "u4", "--figure", "a.png"], "--figure does not go with --user"),
    ):
        with pytest.raises(UserError, match=said):
            predict([str(found.folder), *words])


def test_gradients_of_a_batchs_rows_alone_do_as_whole_ones(rated: Path, train: Train) -> None:
    settings = (
        *("data=ratings", f"data.path={rated}", "model=matrix_factorization", "model.factors=4"),
        *("optimizer=adagrad", "data.batch_size=16", "trainer.steps=5", "trainer.accumulate=2"),
        *("trainer.clip_norm=1", "trainer.checkpoint_seconds=0"),
    )
    runs = [train(*settings, f"model.sparse={sparse}") for sparse in ("false", "true")]

    whole, rows = (dict(dltrain.load(run.folder).model.named_parameters()) for run in runs)
    for name, weight in whole.items():
        torch.testing.assert_close(rows[name], weight, rtol=1e-4, atol=1e-5)
    for wrong, said in (
        ("optimizer=adam", "Adam takes no gradients of a few rows"),
        ("optimizer.weight_decay=0.1", "weight decay needs whole gradients"),
    ):
        with pytest.raises(UserError, match=said):
            train(*settings, "model.sparse=true", wrong)


@pytest.mark.parametrize("implicit", [False, True])
def test_l2_is_of_the_rows_that_a_batch_uses(implicit: bool) -> None:
    torch.manual_seed(0)
    model = MatrixFactorization(spec(), factors=3, implicit=implicit, init_std=1.0, l2=0.5)
    user, item = torch.tensor([1, 2, 1]), torch.tensor([2, 1, 1])
    model.rated_by(user, item)
    with torch.no_grad():
        model.user_biases[1], model.item_biases[2] = 3.0, 4.0
    found = model.penalty(user, item)
    assert found is not None
    own, items = model.user_vectors.weight, model.item_vectors.weight
    total = own[user].square().sum() + items[item].square().sum() + 3.0**2 * 2 + 4.0**2
    if implicit:
        rated = model.rated_vectors.weight
        sums = {1: (rated[1] + rated[2]) / 2**0.5, 2: rated[1]}
        total = total + sum(sums[int(one)].square().sum() for one in user)
    torch.testing.assert_close(found, 0.5 * total / 3)
    found.backward()
    gradient = model.user_vectors.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [1, 2]
    assert MatrixFactorization(spec(), l2=0.0).penalty(user, item) is None


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_rankings_are_learned_of_pairs_alone(loss: str, rated: Path, train: Train) -> None:
    found = train(
        *("data=ratings", f"data.path={rated}", "data.split=leave_one_out", "data.positive=4"),
        *("task=ranking", f"task.loss={loss}", "model=neumf", "task.cutoffs=[3]"),
        *("optimizer.lr=0.02", "data.batch_size=16", "trainer.epochs=10"),
        *(["task.negatives=null"] if loss == "softmax" else []),
        "callbacks=recommender_baseline",
    )
    test = found.summary["test"]

    assert test["hit_rate@3"] > 0.5
    assert test["hit_rate@3"] == test["recall@3"]  # one item a user
    assert {"baseline_popular_ndcg@3", "baseline_neighbors_ndcg@3", "cold_start"} <= test.keys()
    assert set(dltrain.load(found.folder).recommend("u3", 2)) == {"item", "score"}
    evaluated = dltrain.load(found.folder).evaluate().evaluation.scalars
    assert evaluated["hit_rate@3"] == test["hit_rate@3"]


def test_another_run_recommends_nothing(train: Train) -> None:
    found = train("data=gates", "model=mlp", "trainer.epochs=1", "callbacks=none")

    with pytest.raises(UserError, match="recommends nothing"):
        dltrain.load(found.folder).recommend("1")
    with pytest.raises(UserError, match="recommends nothing"):
        predict([str(found.folder), "--user", "1"])
