"""Recurrent networks: exact on padded batches, with the sizes and beginnings of their papers."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.profiler import ProfilerActivity, profile

from dltrain.models.layers.pooling import LastPool, MaxPool, Pooling
from dltrain.models.sequence.recurrent import GRU, LSTM, RNN, Recurrent, mirror, reorder
from tests.specs import numbers, words
from tests.test_models import count

WORDS: dict[str, Any] = {"spec": words(40), "outputs": 3, "embedding_size": 7}
NETWORKS: list[type[Recurrent]] = [RNN, GRU, LSTM]
LENGTHS = [9, 1, 4, 7, 9, 2]
every_network = pytest.mark.parametrize("network", NETWORKS)


def reviews(lengths: list[int] = LENGTHS, seed: int = 0) -> Tensor:
    """Ids (batch, time), padded to the longest."""
    ids = torch.randint(2, 40, (len(lengths), max(lengths)), generator=generator(seed))
    return ids * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(network: type[Recurrent], **settings: Any) -> Recurrent:
    torch.manual_seed(0)
    return network(**{**WORDS, "hidden_size": 5, **settings})


def packed_states(model: Recurrent, vectors: Tensor, lengths: list[int]) -> Tensor:
    """What torch's own layers say of packed sequences, layer by layer (batch, time, width)."""
    for directions in model.layers:
        first = directions[0]
        both = type(first)(
            first.input_size,
            first.hidden_size,
            batch_first=True,
            bidirectional=len(directions) == 2,
            **({"nonlinearity": first.nonlinearity} if isinstance(first, nn.RNN) else {}),
        )
        weights = {
            name + suffix: weight
            for layer, suffix in zip(directions, ["", "_reverse"], strict=False)
            for name, weight in layer.state_dict().items()
        }
        both.load_state_dict(weights)
        packed = pack_padded_sequence(vectors, torch.tensor(lengths), True, enforce_sorted=False)
        vectors = pad_packed_sequence(both(packed)[0], batch_first=True)[0]
    return vectors


@every_network
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both ways"])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_logits_are_those_of_packed_sequences_each_pooled_alone(
    network: type[Recurrent], bidirectional: bool, pooling: Pooling
) -> None:
    model = made(network, layers=2, bidirectional=bidirectional, pooling=pooling).eval()
    ids = reviews()

    states = packed_states(model, model.embed(ids), LENGTHS)
    for i, length in enumerate(LENGTHS):
        alone = states[i, :length]
        if pooling == "last":
            pooled = torch.cat([alone[-1, :5], alone[0, 5:]])
        elif pooling == "max":
            pooled = alone.max(0).values
        elif pooling == "mean":
            pooled = alone.mean(0)
        else:
            scores = model.pooling.context(torch.tanh(model.pooling.hidden(alone)))
            pooled = (scores.softmax(0) * alone).sum(0)
        torch.testing.assert_close(model(ids)[i], model.output(pooled), atol=1e-5, rtol=0)


@every_network
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both ways"])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_review_reads_the_same_whatever_it_is_batched_with(
    network: type[Recurrent], bidirectional: bool, pooling: Pooling
) -> None:
    model = made(network, layers=2, bidirectional=bidirectional, pooling=pooling).eval()
    ids = reviews()
    logits = model(ids)

    padded = model(functional.pad(ids, (0, 11)))
    beside = model(torch.cat([functional.pad(ids, (0, 20)), reviews([29, 3], seed=1)]))[:-2]
    alone = torch.cat([model(ids[i : i + 1, :n]) for i, n in enumerate(LENGTHS)])

    for other in (padded, beside, alone):
        torch.testing.assert_close(other, logits, atol=1e-5, rtol=0)


@every_network
def test_padding_has_no_gradient_and_changes_none(network: type[Recurrent]) -> None:
    model = made(network, bidirectional=True, layers=2)

    def gradients(ids: Tensor) -> Tensor:
        model.zero_grad()
        vectors = model.embed(ids)
        vectors.retain_grad()
        model.read(vectors, ids).square().sum().backward()
        assert vectors.grad is not None
        assert not vectors.grad[ids == 0].any()
        assert vectors.grad[ids != 0].any(1).all()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    ids = reviews()

    torch.testing.assert_close(gradients(ids), gradients(functional.pad(ids, (0, 6))))


@pytest.mark.parametrize(("network", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_the_parameters_are_those_of_a_pencil(network: type[Recurrent], gates: int) -> None:
    one = made(network, hidden_size=5, bidirectional=False)
    two = made(network, hidden_size=5, layers=2, bidirectional=True)

    # Words, then per gate and unit: inputs, the layer's own state, and torch's two biases.
    assert count(one) == 40 * 7 + gates * 5 * (7 + 5 + 2) + 3 * (5 + 1)
    first, second = gates * 5 * (7 + 5 + 2), gates * 5 * (10 + 5 + 2)
    assert count(two) == 40 * 7 + 2 * first + 2 * second + 3 * (10 + 1)


def test_the_tutorials_networks_have_their_parameters() -> None:
    # Vocabulary 25,000 with padding and unknown, 100 wide, 256 hidden.
    sizes: dict[str, Any] = {"embedding_size": 100, "hidden_size": 256}

    one = RNN(words(25_002), 1, **sizes, bidirectional=False, pooling="last")
    assert count(one) == 2_500_200 + 256 * (100 + 256 + 2) + 257 == 2_592_105
    both = LSTM(words(25_002), 1, **sizes, layers=2, bidirectional=True, pooling="last")
    assert count(both) == 2_500_200 + 2 * 1024 * (358 + 770) + 513 == 4_810_857


@every_network
def test_numbers_are_read_as_they_are(network: type[Recurrent]) -> None:
    model = network(numbers(11, 2), 1, hidden_size=4, pooling="last").eval()
    inputs = torch.randn(3, 11, 2)

    assert model(inputs).shape == (3, 1)
    assert model.embedding_weight() is None
    states = model.layers[0][0](inputs)[0]
    torch.testing.assert_close(model(inputs), model.output(states[:, -1]))
    # The first step is seen by the last, however far.
    assert not torch.equal(
        model(inputs), model(inputs + functional.pad(torch.ones(1, 2), (0, 0, 0, 10)))
    )


@every_network
def test_words_are_read_both_ways_for_their_maximum_and_numbers_forwards_to_the_last(
    network: type[Recurrent],
) -> None:
    of_words, of_numbers = made(network), network(numbers(11, 2), 1)

    assert [len(directions) for directions in of_words.layers] == [2]
    assert isinstance(of_words.pooling, MaxPool)
    assert [len(directions) for directions in of_numbers.layers] == [1]
    assert isinstance(of_numbers.pooling, LastPool)


@every_network
@pytest.mark.parametrize("shape", [(1, 28, 28), (4,), ()])
def test_what_is_neither_words_nor_a_sequence_is_refused(
    network: type[Recurrent], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="words or sequences of numbers") as raised:
        network(numbers(*shape), 3)
    assert "x".join(map(str, shape)) in str(raised.value)


@every_network
@pytest.mark.parametrize(
    ("setting", "value"),
    [("layers", 0), ("hidden_size", 0), ("embedding_size", 0), ("embedding_dropout", 1.5)],
)
def test_impossible_sizes_and_fractions_are_refused(
    network: type[Recurrent], setting: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=setting):
        made(network, **{setting: value})


@pytest.mark.parametrize(("network", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_orthogonal_recurrence_is_orthogonal_gate_by_gate(
    network: type[Recurrent], gates: int
) -> None:
    model = made(network, layers=2, bidirectional=True, recurrent_init="orthogonal")

    matrices = [p for name, p in model.named_parameters() if "weight_hh" in name]
    assert len(matrices) == 4
    for matrix in matrices:
        parts = matrix.detach().split(5)
        assert len(parts) == gates
        for part in parts:
            torch.testing.assert_close(part @ part.T, torch.eye(5), atol=1e-5, rtol=0)
    assert not torch.equal(matrices[0], matrices[1])


@pytest.mark.parametrize("forget_bias", [1.0, 2.5])
def test_forget_gates_begin_open_by_the_sum_of_both_biases(forget_bias: float) -> None:
    model = made(LSTM, layers=2, bidirectional=True, forget_bias=forget_bias)

    for directions in model.layers:
        for layer in directions:
            sums = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().view(4, 5)
            torch.testing.assert_close(sums[1], torch.full((5,), forget_bias))
            assert (sums[[0, 2, 3]].abs() < 2 / 5**0.5).all()


def test_torchs_own_forget_bias_is_left_alone() -> None:
    model = made(LSTM, forget_bias="default")
    torch.manual_seed(0)
    reference = made(LSTM)

    own, opened = model.layers[0][0], reference.layers[0][0]
    assert (own.bias_ih_l0[5:10].abs() < 1 / 5**0.5).all()
    assert (opened.bias_ih_l0[5:10] == 1).all()
    assert torch.equal(own.weight_ih_l0, opened.weight_ih_l0)


def test_readers_of_numbers_begin_with_memories_of_all_lengths() -> None:
    torch.manual_seed(0)
    model = LSTM(numbers(200, 2), 1, hidden_size=500, layers=2)

    for directions in model.layers:
        (layer,) = directions
        sums = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().view(4, 500)
        assert torch.equal(sums[0], -sums[1])
        steps = sums[1].exp()
        assert 1 <= steps.min() < 20 and 180 < steps.max() <= 199
        assert 90 < steps.mean() < 110


def test_texts_have_no_one_length_to_remember() -> None:
    with pytest.raises(ValueError, match="forget_bias=chrono needs sequences of one length"):
        made(LSTM, forget_bias="chrono")


def test_relu_and_tanh_are_chosen_by_name() -> None:
    ids = reviews()
    tanh, relu = made(RNN).eval(), made(RNN, nonlinearity="relu").eval()

    real = ids != 0
    assert (tanh.states(tanh.embed(ids), real) < 0).any()
    assert (relu.states(relu.embed(ids), real) >= 0).all()


def test_dropout_acts_between_layers_and_before_the_output() -> None:
    model = made(GRU, layers=2, bidirectional=False, dropout=0.5)
    seen: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))

    ids = reviews()
    assert not torch.equal(model(ids), model(ids))
    assert seen[:2] == [(6, 9, 5), (6, 5)]
    model.eval()
    assert torch.equal(model(ids), model(ids))


@every_network
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both ways"])
def test_one_hot_words_are_rows_of_the_identity_fed_to_torchs_own_layer(
    network: type[Recurrent], bidirectional: bool
) -> None:
    settings = {"embedding": "onehot", "layers": 2, "pooling": "mean"}
    model = made(network, **settings, bidirectional=bidirectional)
    ids = reviews()
    kind = type(model.layers[0][0])
    tables = model.embedding.weight.detach().chunk(2 if bidirectional else 1, 1)
    words = nn.Embedding.from_pretrained(torch.eye(40))
    references = []
    for layer, table in zip(model.layers[0], tables, strict=True):
        reference = kind(40, 5, batch_first=True)
        recurrent = {n: w for n, w in layer.state_dict().items() if n != "weight_ih_l0"}
        reference.load_state_dict({**recurrent, "weight_ih_l0": table.T})
        references.append(reference)

    seen: list[Tensor] = []
    model.layers[1][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(ids).sum().backward()
    read = [references[0](words(ids))[0]]
    if bidirectional:
        places = mirror(ids != 0)
        read.append(reorder(references[1](reorder(words(ids), places))[0], places))

    real = ids != 0
    torch.testing.assert_close(seen[0][real], torch.cat(read, 2)[real])
    # One step's gradient is as of the matrix product: its word's column, and nothing else.
    assert model.embedding.weight.grad is not None
    assert set(model.embedding.weight.grad.any(1).nonzero().flatten().tolist()) == set(
        ids[real].tolist()
    )


@pytest.mark.parametrize(("network", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_one_hot_parameters_are_those_of_a_pencil(network: type[Recurrent], gates: int) -> None:
    model = made(network, embedding="onehot", bidirectional=True, layers=2)

    first, second = gates * 5 * (40 + 5 + 2), gates * 5 * (10 + 5 + 2)
    assert count(model) == 2 * first + 2 * second + 3 * (10 + 1)
    assert model.embedding_weight() is None
    # Copied and moved to another type, the layer still reads what it is handed.
    ids = reviews()
    torch.testing.assert_close(copy.deepcopy(model)(ids), model(ids))
    torch.testing.assert_close(copy.deepcopy(model).double()(ids).float(), model(ids))
    other = made(network, embedding="onehot", layers=2, recurrent_init="orthogonal")
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(ids), model(ids))


def test_dropout_of_one_hot_words_leaves_whole_words_out() -> None:
    model = made(RNN, embedding="onehot", embedding_dropout=0.5)
    ids = reviews()

    kept = model.embed(ids) / model.eval().embed(ids)
    assert (kept[ids != 0] == kept[ids != 0][:, :1]).all()
    assert set(kept[ids != 0].unique().tolist()) == {0.0, 2.0}


def test_one_hot_words_are_not_normalized() -> None:
    with pytest.raises(ValueError, match="one-hot"):
        made(LSTM, embedding="onehot", normalize_embedding=True, spec=words(40, [1] * 40))


def test_word_vectors_are_normalized_by_frequency() -> None:
    counts = torch.randint(1, 1000, (40,), generator=generator(3))
    counts[0] = 0
    fractions = counts / counts.sum()
    model = made(LSTM, normalize_embedding=True, spec=words(40, counts.tolist()))
    with torch.no_grad():
        model.embedding.weight.mul_(3).add_(1)

    table = model.embedding_weight().detach()
    mean = (fractions[:, None] * table).sum(0)
    torch.testing.assert_close(mean, torch.zeros(7), atol=1e-5, rtol=0)
    variance = (fractions[:, None] * (table - mean).square()).sum(0)
    torch.testing.assert_close(variance, torch.ones(7), atol=1e-4, rtol=0)
    ids = reviews()
    torch.testing.assert_close(model.embed(ids), table[ids])


@pytest.mark.parametrize(("counts", "message"), [([], "do not tell"), ([1, 1], "each of")])
def test_frequencies_must_be_known_to_normalize(counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(LSTM, normalize_embedding=True, spec=words(40, counts))


@every_network
def test_attention_weighs_the_real_words_and_sums_to_one(network: type[Recurrent]) -> None:
    ids = reviews()
    model = made(network, pooling="attention").eval()

    weights = model.attention_weights(ids)
    assert weights is not None
    assert weights.shape == ids.shape
    assert ((weights > 0) == (ids != 0)).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(ids)))
    assert made(network, pooling="mean").attention_weights(ids) is None


def test_ids_may_be_of_either_width() -> None:
    model = made(LSTM, bidirectional=True).eval()

    assert torch.equal(model(reviews().int()), model(reviews().long()))


@every_network
def test_nothing_but_weights_is_kept(network: type[Recurrent]) -> None:
    counts = [1] * 40
    model = made(network, normalize_embedding=True, dropout=0.0, spec=words(40, counts))

    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    first, second = model(reviews()), model(reviews())
    assert torch.equal(first, second)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_processor_every_direction_is_one_fused_kernel(precision: torch.dtype) -> None:
    if precision is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor's oneDNN has no bfloat16")
    model, ids = made(LSTM, layers=2, bidirectional=True), reviews()

    with (
        profile(activities=[ProfilerActivity.CPU]) as profiler,
        torch.autocast("cpu", precision, enabled=precision is not torch.float32),
    ):
        model(ids).float().sum().backward()

    calls = {event.key: event.count for event in profiler.key_averages()}
    assert calls["aten::mkldnn_rnn_layer_backward"] == 4
    assert not any("pack_padded" in name for name in calls)


@every_network
def test_where_words_are_rare_vectors_begin_small_and_units_are_dropped(
    network: type[Recurrent],
) -> None:
    rare, frequent = words(40, [99] * 40), words(40, [100] * 40)
    stds = {}
    for spec, dropout in ((rare, 0.5), (frequent, 0.0), (words(40), 0.0)):
        model = made(network, spec=spec, embedding_size=50)
        assert model.dropout.p == dropout and model.embedding is not None
        stds[id(spec)] = float(model.embedding.weight[1:].detach().std())
    assert list(stds.values()) == pytest.approx([0.1, 1.0, 1.0], rel=0.1)
    model = made(network, spec=rare, embedding_size=50, embedding_std=2.0, dropout=0.1)
    assert model.dropout.p == 0.1 and model.embedding is not None
    assert float(model.embedding.weight[1:].detach().std()) == pytest.approx(2, rel=0.1)
    assert made(network, spec=numbers(4, 2)).dropout.p == 0
    with pytest.raises(ValueError, match="embedding_std is above 0"):
        made(network, embedding_std=0.0)
