"""What each of several processes has of a batch, and how gradients and states become one."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dltrain import cli, messages
from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.contracts.data import Batch, Stream
from dltrain.contracts.run import Group
from dltrain.core.loop import Trainer
from dltrain.core.state import Place
from dltrain.core.update import Optimize
from dltrain.data.streams.in_memory import Batching, Limits, TensorStream
from dltrain.data.streams.ragged import Ragged, RaggedStream
from dltrain.engine.parallel import environment, joining
from dltrain.engine.parallel.gradients import Bucket, Buffers
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.parallel.rows import Divided, Shard, rows_of
from dltrain.engine.parallel.several import Several, _joined, _own
from dltrain.errors import ConfigError, UserError
from dltrain.metrics.history import History
from dltrain.runs import checkpoint
from dltrain.runs.elastic import forget_run, note_run, run_to_go_on
from dltrain.runs.environment import choose_device
from dltrain.runs.folder import FolderOfAnother, RunFolder
from dltrain.runs.load import load
from tests.conftest import Compose
from tests.processes import free_port

CPU = torch.device("cpu")


def stream(count: int, size: int, shuffle: bool = True) -> TensorStream:
    batching = Batching(Limits(size), CPU, lambda batch, draw: dict(batch), 0, shuffle)
    return TensorStream({"input": torch.arange(count), "target": torch.zeros(count)}, batching)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_rows_are_disjoint_and_cover_the_batch(world: int) -> None:
    for count in (1, 2, 6, 33):
        found = [row for rank in range(world) for row in range(*rows_of(count, rank, world))]

        assert found == list(range(count))
        sizes = [high - low for low, high in (rows_of(count, r, world) for r in range(world))]
        assert max(sizes) - min(sizes) <= 1


def test_ranks_share_each_batch_and_none_is_empty() -> None:
    notes: list[tuple[int, int]] = []
    shards = [Shard(stream(13, 5), rank, 4, lambda *note: notes.append(note)) for rank in range(4)]

    for epoch in (0, 1):
        whole = list(stream(13, 5).batches(epoch))
        parts = [list(shard.batches(epoch)) for shard in shards]
        assert {len(part) for part in parts} == {len(whole)}
        for position, batch in enumerate(whole):
            own = [part[position]["input"] for part in parts]
            assert all(len(rows) for rows in own)
            assert set(torch.cat(own).tolist()) == set(batch["input"].tolist())
    # Of the last batch, of 3, a rank has none of its own, and is told so.
    assert (0, 3) in notes
    assert shards[0].smallest_batch == 1
    assert shards[2].rows(0, 1).tolist() == list(shards[2].batches(0))[1]["input"].tolist()


class Counted(Stream):
    """Of a kind that knows nothing of ranks."""

    steps_per_epoch = 5

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter([{"input": torch.tensor([n])} for n in range(start, 5)])

    def rows(self, epoch: int, position: int) -> Tensor:
        return torch.tensor([position])


def ragged() -> RaggedStream:
    lengths = torch.tensor([3, 1, 4, 1, 5, 2, 6])
    column = Ragged.joined(torch.arange(int(lengths.sum())), lengths)
    batching = Batching(Limits(2), CPU, lambda batch, draw: dict(batch))
    return RaggedStream({"text": column}, {"target": torch.arange(7)}, batching)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "make", [Counted, ragged, lambda: stream(9, 9, False), lambda: stream(9, 4)]
)
def test_evaluation_deals_whole_batches_to_ranks(make: Callable[[], Stream], world: int) -> None:
    whole = list(make().plain())

    dealt = {n: batch for rank in range(world) for n, batch in make().dealt(rank, world)}

    assert sorted(dealt) == list(range(len(whole)))
    for number, batch in enumerate(whole):
        assert all(torch.equal(batch[name], dealt[number][name]) for name in batch)


def two(
    networks: list[nn.Module], totals: list[float | None], fractions: list[float]
) -> list[object]:
    """What two ranks have after summing; the first is asked twice, so that both have heard both."""
    buckets = [Bucket(list(one.parameters()), Buffers(one)) for one in networks]
    said: list[Tensor] = []
    with torch.no_grad():
        for network in networks:  # what they learn without gradients
            for buffer in network.buffers():
                buffer += 1 if network is networks[0] else 2
    kept = [[p.grad for p in one.parameters()] for one in networks]
    for rank in (0, 1):
        copied = copy.deepcopy(buckets[rank])
        copied.parameters = buckets[rank].parameters
        copied.reduce(totals[rank], fractions[rank], lambda flat: said.append(flat.clone()))
        for parameter, gradient in zip(networks[rank].parameters(), kept[rank], strict=True):
            parameter.grad = gradient
    summed = said[0] + said[1]
    return [
        buckets[rank].reduce(totals[rank], fractions[rank], lambda flat: flat.copy_(summed))
        for rank in (0, 1)
    ]


class Two(nn.Module):
    """Two weights in their own order of memory, and a buffer that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2, bias=False).to(memory_format=torch.channels_last)
        self.free = nn.Parameter(torch.zeros(2))
        self.never = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.tensor([0.1, 0.2]))
        self.register_buffer("still", torch.tensor([0.3]))
        self.register_buffer("seen", torch.tensor(3))


def test_gradients_are_summed_with_what_lacks_one() -> None:
    networks: list[nn.Module] = [Two(), Two()]
    for rank, network in enumerate(networks):
        network.conv.weight.grad = torch.arange(24.0).view(2, 3, 2, 2) * (rank + 1)
    networks[1].free.grad = torch.ones(2)

    totals = two(networks, [2.0, 3.0], [0.25, 0.75])

    assert totals == [torch.tensor(5.0)] * 2
    for network in networks:
        assert torch.equal(network.conv.weight.grad, torch.arange(24.0).view(2, 3, 2, 2) * 3)
        assert network.conv.weight.grad.stride() == network.conv.weight.stride()
        assert network.free.grad.tolist() == [1, 1]  # one rank had none
        assert network.never.grad is None  # none had
        # 1 and 2, by a quarter and three quarters of the rows.
        assert network.mean.tolist() == pytest.approx([1.85, 1.95])


class Both(Ranks):
    """One of two ranks that has so many rows of a batch; it notes what it would send."""

    world = 2

    def __init__(self, rank: int, fraction: float) -> None:
        super().__init__()
        self.rank, self.fraction = rank, fraction
        self.sent: list[Tensor] = []

    def together(self, parameters, total):  # type: ignore[no-untyped-def]
        self.sent = [p.grad.clone() for p in parameters] + [torch.as_tensor(total or 0.0)]
        return total


@pytest.mark.parametrize("weighted", [False, True])
def test_the_sum_over_ranks_is_the_gradient_of_the_mean(weighted: bool) -> None:
    # In float64: a gradient may be a small difference of large terms, of which float32's rounding
    # is a large part.
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(7, 5, dtype=torch.float64, generator=generator).split([4, 1], 1)
    bounds = [(0, 2), (2, 7)]
    whole = nn.Linear(4, 1, dtype=torch.float64)
    (whole(inputs) - targets).square().mean().backward()
    sent = []
    for rank, (low, high) in enumerate(bounds):
        network = copy.deepcopy(whole)
        network.zero_grad()
        ranks = Both(rank, (high - low) / 7)
        sgd = torch.optim.SGD(network.parameters(), 0.0)
        group = Group(list(network.parameters()), list(network.parameters()))
        optimize = Optimize({"model": sgd}, {"model": group}, {}, "cpu", ranks=ranks)
        loss = (network(inputs[low:high]) - targets[low:high]).square().mean()
        optimize(loss, weight=high - low if weighted else None)
        sent.append(ranks.sent)

    *gradients, total = (one + other for one, other in zip(*sent, strict=True))

    assert total == (7 if weighted else 0)
    for found, parameter in zip(gradients, whole.parameters(), strict=True):
        assert torch.allclose(found / (total or 1), parameter.grad)


def test_training_means_are_over_all_ranks() -> None:
    said = {}
    fractions = {0: 0.25, 1: 0.75}
    steps = {0: (2.0, torch.nan, 0.0), 1: (4.0, 5.0, 3.0)}

    def averaged(rank: int):  # type: ignore[no-untyped-def]
        def average(rows, weighted, of):  # type: ignore[no-untyped-def]
            assert (weighted, of) == ([1], [fractions[rank]])
            said[rank] = rows
            return rows

        return average

    for rank, (loss, other, weight) in steps.items():
        history = History(averaged(rank))
        metrics = {"loss": torch.tensor(loss), "own": (torch.tensor(other), torch.tensor(weight))}
        history.add(metrics, 8, fractions[rank])
        history.read()

    assert said[1].tolist() == [[4.0, 5.0, 3.0]]


def test_a_training_state_is_of_all_rows_whatever_the_world() -> None:
    state = {"batches": 3, "state": [torch.arange(10.0).view(5, 2)], "chains": None}

    for world in (1, 2, 4):
        parts = [_own(state, rank, world) for rank in range(world)]
        joined = _joined(parts)
        assert joined["batches"] == 3
        assert torch.equal(joined["state"][0], state["state"][0])  # type: ignore[index]


def test_a_job_that_is_started_again_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    folder = RunFolder.create(tmp_path, "some")
    folder.write_text("config.yaml", "")
    folder.write_text("overrides.txt", "model=mlp\n")
    folder.write_json("summary.json", {"status": "interrupted"}, sealed=True)
    folder.publish(tmp_path)
    folder.release()
    place = tmp_path / "some"
    assert run_to_go_on(place, ["model=mlp"]) is None
    note_run(folder)

    assert run_to_go_on(place, ["model=mlp"]) == str(place / folder.path.name)
    assert run_to_go_on(place, ["model=cnn"]) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
    assert run_to_go_on(place, ["model=mlp"]) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # nobody has named it: of this torchrun alone
    note_run(folder)
    assert run_to_go_on(place, ["model=mlp"]) is not None
    folder.write_json("summary.json", {"status": "finished"}, sealed=True)
    assert run_to_go_on(place, ["model=mlp"]) is None
    forget_run(place)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert run_to_go_on(place, ["model=mlp"]) is None


def test_a_process_that_is_not_rank_0_writes_nothing(tmp_path: Path) -> None:
    folder = FolderOfAnother.create(tmp_path, "some")
    folder.hold()
    folder.write_text("config.yaml", "")
    folder.write_checksums()
    folder.publish(tmp_path)
    folder.remove("config.yaml")
    folder.keep("a", "b")
    folder.sync()
    folder.discard()

    assert list(tmp_path.rglob("*")) == []


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": 2, "RANK": 3, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert choose_device("auto") == torch.device("cuda:1")
    assert choose_device("cpu") == CPU
    assert not environment.speaks()
    with pytest.raises(UserError, match="cuda:0 is one device, and torchrun has started 2"):
        choose_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="Start as many as there are CUDA devices"):
        choose_device("auto")


class OfOne(Several):
    """A world of one whose gradients are summed all the same."""

    several = True


@contextmanager
def world_of_one(device: torch.device, backend: str) -> Iterator[Several]:
    """PyTorch's process group, of this process alone."""
    place = f"tcp://127.0.0.1:{free_port()}"
    dist.init_process_group(backend, init_method=place, world_size=1, rank=0)
    try:
        yield OfOne(device)
    finally:
        dist.destroy_process_group()


def test_a_world_of_one_trains_as_a_process_alone(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(
        *(
            "model=mlp",
            "model.hidden=[8]",
            "model.batch_norm=true",
            "data=digits",
            "data.limit=200",
        ),
        *("callbacks=none", "device=cpu", "trainer.epochs=2", "trainer.accumulate=2"),
        *("trainer.test_weights=best", "trainer.checkpoint_seconds=0", f"output_dir={tmp_path}"),
    )
    alone = run.train(config)
    with world_of_one(CPU, "gloo") as ranks:
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(ranks))
        together = run.train(config)

    for split in ("validation", "test"):
        assert together[split] == pytest.approx(alone[split], rel=1e-5)


def test_divided_weights_train_as_whole_ones_and_are_used_and_resumed_whole(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [
        *("model=cnn", "model.channels=[4]", "data=digits", "data.limit=100", "device=cpu"),
        *("callbacks=none", "trainer.clip_norm=1", "trainer.epochs=2", f"output_dir={tmp_path}"),
    ]
    alone = run.train(compose(*typed))
    config = compose(*typed, "trainer.parallel=fsdp", "trainer.parallel.smallest=500")
    with world_of_one(CPU, "gloo") as ranks:
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(ranks))
        stop_after(3, monkeypatch)
        begun = run.train(config)
        monkeypatch.undo()
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(OfOne(CPU)))
        together = run.resume(str(begun["path"]), tmp_path)

    assert begun["status"] == "interrupted"
    assert together["test"] == pytest.approx(alone["test"], rel=1e-4)
    weights = load(str(together["path"])).state_dict()
    assert all(type(value) is Tensor for value in weights.values())
    monkeypatch.undo()
    stop_after(3, monkeypatch)
    begun = run.train(config)
    monkeypatch.undo()
    assert run.resume(str(begun["path"]), tmp_path)["test"] == alone["test"]


def test_a_damaged_part_is_named_and_the_checkpoint_before_is_used(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    config = compose(
        *("model=mlp", "model.hidden=[8]", "data=digits", "data.limit=100", "device=cpu"),
        *("callbacks=none", "trainer.epochs=2", "trainer.checkpoint_seconds=0"),
        *("trainer.parallel=fsdp", "trainer.parallel.smallest=500", f"output_dir={tmp_path}"),
    )
    with world_of_one(CPU, "gloo") as ranks:
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(ranks))
        stop_after(3, monkeypatch)
        folder = run.train(config)["path"]
        monkeypatch.undo()
        there = {path.stem for path in (folder / "checkpoints").glob("*.parts")}
        name = torch.load(folder / checkpoint.LAST)["divided"]["name"]
        assert len(there) == 2  # the last and the one before
        part = folder / f"checkpoints/{name}.parts/0.pt"
        part.write_bytes(part.read_bytes()[:-100])
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(OfOne(CPU)))
        finished = run.resume(str(folder), tmp_path)

    assert finished["status"] == "finished"
    assert "Going on from the one before it, previous.pt." in caplog.text
    left = {path.stem for path in (folder / "checkpoints").glob("*.parts")}
    names = (checkpoint.LAST, checkpoint.BEST)
    assert left == {torch.load(folder / one)["divided"]["name"] for one in names}


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a signal ask for an end after so many steps."""
    step = Trainer._step

    def stepped(self: Trainer, batch: Batch, place: Place) -> None:
        step(self, batch, place)
        if self.state.step == steps:
            self.ranks.ask(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_step", stepped)


def test_what_several_processes_cannot_do_is_refused_at_once(
    compose: Compose, tmp_path: Path
) -> None:
    config = compose(
        *("model=mlp", "data=digits", "callbacks=none", "trainer.compile=auto"),
        f"output_dir={tmp_path}",
    )
    with Assembly(config) as assembly, messages.shown() as shown:
        parts = assembly.read()
        parts.settings.cuda_graph = "on"
        with pytest.raises(
            ConfigError, match=r"trainer\.cuda_graph: a recorded.*\n.*compile: auto"
        ):
            run.Run(config, parts, shown, 0.0, ranks=Both(0, 0.5))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["evaluate", "latest"], "evaluate is done by one process, and torchrun has started 2"),
        (["tune", "optimizer.lr=log(1e-4,1e-1)"], "tune is done by one process"),
        (["-m", "seed=1,2"], "-m is done by one process"),
        (["resume", "latest", "trainer.epochs=20"], "keys to go on for longer are for one process"),
    ],
)
def test_what_one_process_does_is_refused_to_several(
    typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(UserError, match=said):
        cli.dispatch(typed)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_is_divided_is_no_more_divided() -> None:
    def known(rows: int, whole: int) -> None:
        raise AssertionError("the stream does not know how many others have")

    sent = []
    for rank, count in ((0, 3), (1, 2)):
        ranks = Both(rank, 0.5)
        stream = Divided(Counted(), known, lambda rows, ranks=ranks: setattr(ranks, "rows", rows))
        assert [len(batch["input"]) for batch in stream.batches(0)] == [1] * 5
        assert ranks.rows == 1
        assert [number for number, _ in stream.dealt(rank, 2)] == [0, 1, 2, 3, 4]
        ranks.rows = count
        network = nn.Linear(2, 1, bias=False)
        group = Group(list(network.parameters()), list(network.parameters()))
        sgd = torch.optim.SGD(network.parameters(), 0.0)
        optimize = Optimize({"model": sgd}, {"model": group}, {}, "cpu", ranks=ranks)
        optimize(network(torch.ones(count, 2)).mean())
        sent.append(ranks.sent)

    assert [part[-1] for part in sent] == [3, 2]  # they weigh as their rows
    assert sent[0][0].tolist() == [[3, 3]]


def test_the_rank_that_tells_of_a_failure_ends_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun stops all others once one process has ended, and what they were to say is lost."""
    store, ended = dist.HashStore(), []
    monkeypatch.setattr(dist, "get_rank", lambda: int(threading.current_thread().name))
    monkeypatch.setattr(environment, "_chosen", [])
    monkeypatch.setattr(joining, "TELLING", 2.5 * joining.LOOKS + joining.FIRST)

    def fail() -> None:
        try:
            joining._fail(store, UserError("the file is damaged"))
        except SystemExit as error:
            ended.append((dist.get_rank(), error.code))
        else:
            ended.append((dist.get_rank(), None))

    threads = [threading.Thread(target=fail, name=str(rank)) for rank in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ended == [(0, None), (1, 2)]
