"""Networks that read one sequence and write another: exact however they are batched and asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.contracts.translation import EncoderDecoder
from dltrain.models.sequence.seq2seq import Seq2Seq
from dltrain.models.sequence.transformer_seq2seq import TransformerSeq2Seq
from tests.specs import numbers, pairs, words

SPEC = pairs(12, 10)
SMALL: dict[str, Any] = {"embedding_size": 6, "hidden_size": 5}
NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "luong": (Seq2Seq, SMALL),
    "bahdanau": (Seq2Seq, {**SMALL, "attention": "bahdanau"}),
    "lstm": (Seq2Seq, {**SMALL, "cell": "lstm", "layers": 2}),
    "bahdanau lstm": (
        Seq2Seq,
        {**SMALL, "attention": "bahdanau", "cell": "lstm", "layers": 2},
    ),
    "transformer": (TransformerSeq2Seq, {"layers": 2, "width": 8, "heads": 2, "feedforward": 9}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def made(name: str, spec: DataSpec = SPEC, **settings: Any) -> Any:
    torch.manual_seed(0)
    network, own = NETWORKS[name]
    return network(spec, **{**own, **settings}).eval()


def ids(lengths: list[int], size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randint(4, size, (len(lengths), max(lengths)), generator=generator)
    return found * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


SOURCE, TARGET = ids([7, 1, 4], 12, 0), ids([5, 3, 2], 10, 1)


@every_network
def test_logits_depend_on_a_row_alone(name: str) -> None:
    model = made(name)
    logits = model(SOURCE, TARGET)

    padded = model(functional.pad(SOURCE, (0, 6)), functional.pad(TARGET, (0, 2)))[:, :5]
    alone = [model(SOURCE[i : i + 1, :n], TARGET[i : i + 1]) for i, n in enumerate([7, 1, 4])]

    assert isinstance(model, EncoderDecoder)
    assert logits.shape == (3, 5, 10)
    torch.testing.assert_close(padded, logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(alone), logits, atol=1e-5, rtol=0)


@every_network
def test_steps_one_by_one_are_all_steps_at_once(name: str) -> None:
    model = made(name)
    memory = model.encode(SOURCE)
    logits, attention = model.decode(memory, TARGET)
    state, found = model.begin(memory), []
    for step in TARGET.unbind(1):
        one, state = model.step(memory, state, step)
        found.append(one)

    torch.testing.assert_close(torch.stack(found, 1), logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(attention.sum(2), torch.ones(3, 5))
    assert not attention[1, :, 1:].any()
    torch.testing.assert_close(model(SOURCE, TARGET), logits)


@every_network
def test_a_step_sees_no_token_that_comes_later(name: str) -> None:
    model, other = made(name), TARGET.clone()
    other[:, 3:] = 9

    torch.testing.assert_close(model(SOURCE, other)[:, :3], model(SOURCE, TARGET)[:, :3])


@every_network
def test_mixed_precision_changes_little(name: str) -> None:
    model = made(name)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(SOURCE, TARGET)
        memory = model.encode(SOURCE)
        step, _ = model.step(memory, model.begin(memory), TARGET[:, 0])

    exact = model(SOURCE, TARGET)
    torch.testing.assert_close(logits.float(), exact, atol=0.1, rtol=0)
    torch.testing.assert_close(step.float(), exact[:, 0], atol=0.1, rtol=0)


@every_network
def test_rows_of_memory_and_state_can_be_chosen(name: str) -> None:
    model, order = made(name), torch.tensor([2, 2, 0])
    memory = model.encode(SOURCE)
    _, state = model.step(memory, model.begin(memory), TARGET[:, 0])
    chosen = [{n: c.index_select(0, order) for n, c in rows.items()} for rows in (memory, state)]
    logits, _ = model.step(memory, state, TARGET[:, 1])

    torch.testing.assert_close(model.step(*chosen, TARGET[order, 1])[0], logits[order])


@every_network
def test_vocabularies_and_weights_are_shared_where_they_are_the_same(name: str) -> None:
    spec = pairs(10, 10)
    shared = DataSpec({"input": spec.input, "target": replace(spec.target, names=spec.input.names)})
    one, two, loose = made(name, shared), made(name), made(name, tied=False)

    assert one.vectors.source.weight is one.vectors.output.weight
    assert two.vectors.source.weight is not two.vectors.target.weight
    assert loose.vectors.output.weight is not loose.vectors.target.weight


@pytest.mark.parametrize("spec", [numbers(9, 2), words(40)])
def test_other_data_is_refused(spec: DataSpec) -> None:
    with pytest.raises(ValueError, match=r"target|tokens"):
        made("luong", spec)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("luong", {"hidden_size": 0}),
        ("luong", {"dropout": 1.0}),
        ("transformer", {"layers": 0}),
        ("transformer", {"width": 9}),
    ],
)
def test_impossible_sizes_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made(name, **wrong)


@every_network
def test_logits_begin_with_how_often_a_token_is_written(name: str) -> None:
    """Else a small one stays for good where it learned that of 300 tokens most are never met."""
    counts = (0, 0, 0, 6, 2, 1, 0, 0, 0, 0)
    target = replace(SPEC.target, counts=counts)
    model = made(name, replace(SPEC, fields={**SPEC.fields, "target": target}))
    begun = model.vectors.output.bias.detach().softmax(0)
    torch.testing.assert_close(begun * 19, torch.tensor(counts) + 1.0)
