"""The self-attention encoder: exact on padded batches, with positions, at its papers' sizes."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.errors import UserError
from dltrain.models.layers.pooling import Pooling
from dltrain.models.sequence.transformer import Positions, SelfAttention, sinusoids, turned
from tests.specs import numbers, words
from tests.test_models import count
from tests.test_models_recurrent import LENGTHS, reviews

WORDS: dict[str, Any] = {
    "spec": words(40),
    "outputs": 3,
    "embedding_size": 8,
    "heads": 2,
    "feedforward": 12,
}


def made(**settings: Any) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(**{**WORDS, **settings})


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("positions", get_args(Positions))
def test_a_review_reads_the_same_whatever_it_is_batched_with(
    pooling: Pooling, positions: Positions
) -> None:
    model = made(pooling=pooling, positions=positions).eval()
    ids = reviews()
    logits = model(ids)

    padded = model(functional.pad(ids, (0, 11)))
    beside = model(torch.cat([functional.pad(ids, (0, 20)), reviews([29, 3], seed=1)]))[:-2]
    alone = torch.cat([model(ids[i : i + 1, :n]) for i, n in enumerate(LENGTHS)])

    for other in (padded, beside, alone):
        torch.testing.assert_close(other, logits, atol=1e-5, rtol=0)


def test_padding_has_no_gradient() -> None:
    model, ids = made(), reviews()
    vectors = model.embed(ids)
    vectors.retain_grad()

    model.read(vectors, ids).square().sum().backward()

    assert vectors.grad is not None
    assert not vectors.grad[ids == 0].any()
    assert vectors.grad[ids != 0].any(1).all()


def test_a_layer_is_torchs_pre_norm_encoder_layer() -> None:
    layer = made(layers=1, dropout=0.0).layers[0]
    reference = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = [
        (reference.self_attn.out_proj, layer.merge),
        (reference.norm1, layer.attention_norm),
        (reference.norm2, layer.feedforward[0]),
        (reference.linear1, layer.feedforward[1]),
        (reference.linear2, layer.feedforward[4]),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        reference.self_attn.in_proj_weight.copy_(layer.project.weight)
        reference.self_attn.in_proj_bias.copy_(layer.project.bias)
    states, real = torch.randn(6, 9, 8), reviews() != 0

    theirs = reference(states, src_key_padding_mask=~real)
    torch.testing.assert_close(layer(states, real[:, None, None], None)[real], theirs[real])


def test_the_parameters_are_those_of_a_pencil() -> None:
    layer = 3 * 8 * 9 + 8 * 9 + 12 * 9 + 8 * 13 + 2 * 16

    assert count(made(pooling="max")) == 40 * 8 + 2 * layer + 16 + 3 * 9
    assert count(made(layers=3, positions="learned", max_length=50, pooling="max")) == (
        40 * 8 + 50 * 8 + 3 * layer + 16 + 3 * 9
    )


def test_the_order_of_words_matters() -> None:
    ids = torch.tensor([[2, 3, 4, 5]])
    for positions in get_args(Positions):
        model = made(positions=positions, pooling="mean").eval()
        assert (model(ids) - model(ids.flip(1))).abs().max() > 1e-4


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(50, 6, torch.device("cpu")).flatten(1)

    for place in (0, 1, 49):
        for i in range(3):
            angle = place / 10_000 ** (2 * i / 6)
            assert float(table[place, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-4)
            assert float(table[place, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-4)


def test_rotary_attention_sees_distances_alone() -> None:
    turns = sinusoids(20, 6, torch.device("cpu"))
    query, key = torch.randn(2, 6)

    scores = turned(query.expand(20, 6), turns) @ turned(key.expand(20, 6), turns).T
    for distance in (0, 1, 7):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=0)
    assert scores[0].std() > 0.01
    torch.testing.assert_close(scores.diagonal(), (query @ key).expand(20), atol=1e-5, rtol=0)


def test_beyond_the_learned_positions_is_one_message() -> None:
    model = made(positions="learned", max_length=5)

    assert model(reviews([5, 3])).shape == (2, 3)
    with pytest.raises(UserError, match="6 steps") as raised:
        model(reviews([6]))
    assert "model.max_length" in str(raised.value)


def test_numbers_are_brought_to_the_width() -> None:
    model = SelfAttention(numbers(11, 2), 1, embedding_size=8, heads=2)

    assert model(torch.randn(3, 11, 2)).shape == (3, 1)
    assert model.embedding_weight() is None


@pytest.mark.parametrize(
    ("setting", "value"), [("layers", 0), ("heads", 3), ("feedforward", 0), ("max_length", 0)]
)
def test_impossible_sizes_are_refused(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=setting):
        made(**{setting: value})


def test_words_weigh_what_the_pooling_learns() -> None:
    ids: Tensor = reviews()
    weights = made(pooling="attention").eval().attention_weights(ids)

    assert weights is not None
    assert ((weights > 0) == (ids != 0)).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(ids)))


def test_dropout_acts_in_training_only() -> None:
    model, ids = made(dropout=0.5), reviews()

    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
