"""Federated averaging: who has which examples, what the server knows, and when."""

from __future__ import annotations

import csv
import time
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.cli import dispatch
from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.task import Phase, Task
from dltrain.core.update import Optimize
from dltrain.data.streams.in_memory import Batching, Limits, TensorStream
from dltrain.federated.averaging import Averaging, Proximal
from dltrain.federated.partition import by_class, even
from dltrain.federated.plan import Federated
from dltrain.federated.rounds import Rounds
from dltrain.optim.groups import groups_of
from dltrain.tasks.classification import Classification
from dltrain.tasks.gan import AdversarialGame
from tests.asking import classes
from tests.conftest import Train

SPEC = classes(["a", "b", "c", "d"], 3)
COUNT = 40


def as_they_are(batch: Batch, draw: Draw | None) -> Batch:
    return batch


def stream(count: int = COUNT, batch: int = 3) -> TensorStream:
    """Examples that say which they are, of classes in turn."""
    columns = {"input": torch.arange(count)[:, None].expand(-1, 3) + 0.0}
    columns["target"] = torch.arange(count) % 4
    batching = Batching(Limits(batch), torch.device("cpu"), as_they_are, shuffle=True)
    return TensorStream(columns, batching)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_examples_are_dealt_evenly_and_once() -> None:
    shards = even(43, 4, generator())
    assert shards.shape == (4, 10)
    assert len(shards.unique()) == 40


def test_a_client_has_about_as_many_classes_as_are_asked() -> None:
    targets = torch.arange(4000) % 10
    shards = by_class(targets, 20, 2, generator())
    assert shards.shape == (20, 200)
    assert len(shards.unique()) == 4000
    # 40 pieces of 100: four of each class.
    assert all(len(targets[shard].unique()) <= 2 for shard in shards)
    assert len({tuple(targets[shard].unique().tolist()) for shard in shards}) > 5


def test_a_round_is_one_client_after_the_other() -> None:
    shards = even(COUNT, 5, generator())
    rounds = Rounds(stream(), shards, per_round=2, local_epochs=3)
    assert (rounds.steps_per_client, rounds.steps_per_epoch) == (9, 18)
    for number in range(3):
        taking = rounds.clients(number)
        assert len({*taking}) == 2
        batches = list(rounds.batches(number))
        assert len(batches) == 18
        for place, client in enumerate(taking):
            of_client = batches[9 * place : 9 * (place + 1)]
            seen = Counter(int(row) for batch in of_client for row in batch["input"][:, 0])
            assert seen == dict.fromkeys(shards[client].tolist(), 3)
        again = list(rounds.batches(number, 4))
        assert all(a["input"].equal(b["input"]) for a, b in zip(batches[4:], again, strict=True))
        assert batches[5]["input"][:, 0].equal(rounds.rows(number, 5) + 0.0)
    assert rounds.clients(0) != rounds.clients(1)


def parts(proximal: float = 0.0, per_round: int = 2) -> tuple[Task, Averaging, Optimize]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    task = Classification(model, SPEC).train()
    averaging = Averaging(per_round)
    averaging.attach(task)
    groups = groups_of(task)
    averaging.start(groups)
    optimizers = {"model": torch.optim.SGD(groups["model"].parameters, lr=0.1, momentum=0.9)}
    held = {"model": [Proximal(proximal, averaging)] if proximal else []}
    return task, averaging, Optimize(optimizers, groups, held, "cpu", modifiers=[averaging])


def floats(task: Task) -> list[Tensor]:
    return [value.clone() for value in task.state_dict().values() if value.is_floating_point()]


def client(task: Task, optimize: Optimize, seed: int, steps: int = 3) -> list[Tensor]:
    """Train as a client does; return what it would send back."""
    optimize.begin_phase(Phase("client", steps, fresh=True))
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs = torch.randn(6, 3, generator=draws)
        targets = torch.randint(4, (6,), generator=draws)
        task.train_step({"input": inputs, "target": targets}, optimize)
    found = floats(task)
    optimize.end_phase(Phase("client", steps, fresh=True))
    return found


def test_the_server_is_the_mean_of_clients_that_all_began_with_it() -> None:
    task, averaging, optimize = parts()
    before = floats(task)
    one = client(task, optimize, 1)
    with averaging.evaluation_weights():
        assert all(a.equal(b) for a, b in zip(floats(task), before, strict=True))
    assert all(a.equal(b) for a, b in zip(floats(task), one, strict=True))
    other = client(task, optimize, 2)
    mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    assert all(a.allclose(b) for a, b in zip(floats(task), mean, strict=True))
    # The second client had neither the first one's weights nor its momentum.
    alone, _, steps = parts()
    assert all(a.equal(b) for a, b in zip(client(alone, steps, 2), other, strict=True))
    size = 4 * sum(value.numel() for value in mean)
    assert averaging.scalars() == {"bytes_down": 2.0 * size, "bytes_up": 2.0 * size}


def test_an_optimizer_that_begins_with_something_begins_so_again() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.Adagrad([weight], lr=0.1, initial_accumulator_value=2.0)
    group: Any = type("Of", (), {"weights": [weight], "parameters": [weight]})
    optimize = Optimize({"model": optimizer}, {"model": group}, {}, "cpu")
    optimize(weight.square().sum())
    optimize.set_multiplier(0.5)
    optimize.begin_phase(Phase("again", 1))
    assert float(optimizer.state[weight]["sum"].max()) == 6
    optimize.begin_phase(Phase("anew", 1, fresh=True))
    assert float(optimizer.state[weight]["sum"].max()) == 2
    assert optimize.learning_rates() == {"model": 0.05}


def test_fedprox_holds_clients_near_the_server() -> None:
    def moved(proximal: float) -> float:
        task, averaging, optimize = parts(proximal)
        optimize.begin_phase(Phase("client", 1))
        assert float(averaging.distance()) == 0
        client(task, optimize, 1, steps=20)
        return float(averaging.distance())

    free, held, firmly = moved(0.0), moved(0.5), moved(5.0)
    assert firmly < held / 2 < free / 2


def test_what_the_server_knows_survives_an_interruption() -> None:
    task, averaging, optimize = parts()
    client(task, optimize, 1)
    other, resumed, steps = parts()
    other.load_state_dict(task.state_dict())
    resumed.load_state_dict(averaging.state_dict())
    client(task, optimize, 2)
    client(other, steps, 2)
    assert all(a.equal(b) for a, b in zip(floats(task), floats(other), strict=True))
    assert averaging.scalars() == resumed.scalars()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clients": 0}, "clients must be at least 1, got 0"),
        ({"per_round": 11}, "whole number from 1 to the 10 clients, .* got 11"),
        ({"per_round": 0}, "between 0 and 1; got 0"),
        ({"per_round": -0.5}, "between 0 and 1; got -0.5"),
        ({"per_round": 2.5}, "got 2.5"),
        ({"local_epochs": 0}, "local_epochs must be at least 1"),
        ({"classes_per_client": 5}, "at most the 4 classes of this data, got 5"),
        ({"classes_per_client": 0}, "classes_per_client must be at least 1"),
        ({"proximal": -1.0}, "proximal must be at least 0, got -1"),
        ({"proximal": float("nan")}, "proximal must be at least 0, got nan"),
    ],
)
def test_what_is_out_of_bounds_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Federated(SPEC, **{"clients": 10, "per_round": 2, **settings})


def test_data_and_tasks_that_cannot_be_dealt_are_refused() -> None:
    numbers = DataSpec({"input": SPEC.input, "target": Field((1,), "number", "target")})
    with pytest.raises(ValueError, match=r"this data is no class \(number\)"):
        Federated(numbers, 10, 2, classes_per_client=2)
    with pytest.raises(ValueError, match="41 clients and 40 training examples leave some without"):
        Federated(SPEC, 41, 2).streams({"train": stream()})
    with pytest.raises(ValueError, match="21 clients of 2 classes each and 40"):
        Federated(SPEC, 21, 2, classes_per_client=2).streams({"train": stream()})
    game = AdversarialGame.__new__(AdversarialGame)
    nn.Module.__init__(game)
    game.model = nn.ModuleDict({"generator": nn.Linear(1, 1), "discriminator": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="Game trains generator, discriminator by turns"):
        Federated(SPEC, 10, 2).check(game)


def test_a_fraction_of_the_clients_is_rounded_and_one_at_least() -> None:
    for fraction, steps in ((0.1, 4), (0.34, 12), (0.001, 4)):
        plan = Federated(SPEC, 10, fraction)
        rounds = plan.streams({"train": stream(batch=1)})["train"]
        assert rounds.steps_per_epoch == steps
    with pytest.raises(ValueError, match=r"a round has 4 steps, and trainer\.steps=6 ends within"):
        plan.phases(6, {"train": 4})


def test_a_thousand_phases_are_silent_and_cheap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = Federated(SPEC, 10, 2)
    plan.streams({"train": stream()})
    caplog.clear()
    begun = time.process_time()
    phases = plan.phases(1000, {"train": 2})
    assert len(phases) == 1000
    assert phases[0] == Phase(f"round 1, client {plan_clients(plan)[0]}", 1, fresh=True)
    _, _, optimize = parts()
    for phase in phases:
        optimize.begin_phase(phase)
        optimize.end_phase(phase)
    assert time.process_time() - begun < 2
    assert not caplog.records


def plan_clients(plan: Federated) -> list[int]:
    assert plan._rounds is not None
    return plan._rounds.clients(0)


def test_what_is_used_of_a_run_within_a_round_are_the_servers_weights() -> None:
    task, averaging, optimize = parts()
    before = floats(task)
    client(task, optimize, 1)
    optimize.begin_phase(Phase("client", 1, fresh=True))
    loaded, plan_of_run, _ = parts()
    plan_of_run.load_state_dict(averaging.state_dict())
    with plan_of_run.evaluation_weights():
        assert all(a.equal(b) for a, b in zip(floats(loaded), before, strict=True))


def test_a_key_of_no_choice_is_answered_by_what_to_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dispatch(["federated.per_round=3"]) == 2
    said = "federated.per_round: there is no such key. It comes with federated=fedavg."
    assert capsys.readouterr().err == f"dltrain: {said}\n"


def test_a_run_counts_rounds_and_tells_what_was_sent(train: Train) -> None:
    folder = train(
        *("data=digits", "data.limit=60", "data.batch_size=5", "model=mlp", "model.hidden=[4]"),
        *("federated=fedavg", "federated.clients=6", "federated.per_round=2"),
        *("trainer.epochs=3", "trainer.evaluate_every=1"),
    ).folder
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    sent = {row["epoch"]: float(row["value"]) for row in rows if row["name"] == "bytes_down"}
    size = 4 * (65 * 4 + 5 * 10)
    assert sent == {str(number): 2.0 * number * size for number in (1, 2, 3)}
