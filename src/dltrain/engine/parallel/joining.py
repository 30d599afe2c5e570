"""Joining the processes that torchrun has started, and leaving them: in order, or on a failure."""

from __future__ import annotations

import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from dltrain.engine.parallel import environment
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.parallel.several import RankLost, Several
from dltrain.errors import UserError

FAILED = "dltrain/failed"
"""The key of the store under which the rank is noted that tells of a failure."""
ATTEMPT = "dltrain/attempt"
"""The key under which rank 0 says how a meeting of processes is called."""
FIRST = 1.0
"""Seconds that rank 0 has to tell of what has gone wrong on all ranks."""
GRACE = 5.0
"""Seconds that a rank has to end once another one has failed."""
TELLING = GRACE
"""Seconds that the rank that tells has for it, before the others end."""
LOOKS = 0.5
"""Seconds between two looks at whether another rank has failed."""
MEETING = timedelta(minutes=5)
"""How long a rank waits for the others to begin."""


@contextmanager
def joined(
    device: Callable[[], torch.device], timeout: float = environment.TIMEOUT
) -> Iterator[Ranks]:
    """The ranks of this run, where torchrun has started several processes; else one alone.

    ``device`` chooses where this process trains. A rank that waits ``timeout`` seconds for another
    takes it for lost. What fails in here is told once, by the rank that
    has failed, and ends every rank.
    """
    world = environment.world_size()
    if world == 1:
        yield Ranks()
        return
    if not environment.speaks():
        warnings.simplefilter("ignore")  # rank 0 has shown them
    try:
        place = device()
    except UserError:
        place = None  # to be told with all other faults of the config
    own = torch.device("cpu") if place is None else place
    if own.type == "cuda":
        torch.cuda.set_device(own)
    try:
        store, rank, world = next(rendezvous("env://", timeout=MEETING))
        store = PrefixStore(_attempt(store, rank, world), store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout),
        )
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"torchrun: the {world} processes cannot meet: {first}") from error
    watch = _Watch(store)
    try:
        ranks = Several(own)
        watch.start()
        yield ranks
        ranks.finish()
        dist.destroy_process_group()
    except (Exception, KeyboardInterrupt) as error:
        _fail(store, error)
        raise
    finally:
        watch.end()


def _attempt(store: Store, rank: int, world: int) -> str:
    """A name for this meeting of processes that no other had, on which all of them agree.

    torchrun's store outlives a restart, and with it where processes that have died were listening.
    So rank 0 chooses a name, and is taken at its word by those that it answers.
    """
    own = secrets.token_hex(8)
    if rank == 0:
        store.set(ATTEMPT, own)
        for other in range(1, world):
            word = store.get(f"{ATTEMPT}/{own}/{other}").decode()
            store.set(f"{ATTEMPT}/{own}/{word}", "met")
        return own
    until = time.monotonic() + MEETING.total_seconds()
    while time.monotonic() < until:
        name = store.get(ATTEMPT).decode()
        store.set(f"{ATTEMPT}/{name}/{rank}", own)
        for _ in range(20):
            if store.check([f"{ATTEMPT}/{name}/{own}"]):
                return name
            time.sleep(0.05)
    raise RuntimeError(f"rank {rank} was not answered by rank 0")


def _fail(store: Store, error: BaseException) -> None:
    """Settle which rank tells of a failure; leave after it if it is another.

    Of what goes wrong on every rank, such as a fault of the config, rank 0 tells; of what goes
    wrong on one alone, that one. Ranks that merely lose another are silent, unless it was killed.
    """
    rank = dist.get_rank()
    lost = _is_loss(error)
    if isinstance(error, KeyboardInterrupt):
        environment.choose_speaker(rank == 0)
        return
    tells = _claims(store, rank, FIRST * (2 if lost else rank > 0))
    environment.choose_speaker(tells)
    if not tells:
        # torchrun stops all others as soon as one has ended: they would take its word away.
        time.sleep(TELLING)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None
    time.sleep(2 * LOOKS)  # the store may be this process's own, and others are to hear of it
    if lost:
        raise UserError(
            f"rank {rank}: another process of this run was killed, its machine is gone, or it has "
            f"not answered within trainer.timeout: "
            f"{error}. Go on with: dltrain resume latest"
        ) from error
    # torch puts the rank before each line of a traceback.
    if isinstance(error, UserError) and rank:
        raise UserError(f"rank {rank}: {error}") from error


def _is_loss(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (RankLost, dist.DistBackendError, dist.DistNetworkError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _claims(store: Store, rank: int, wait: float) -> bool:
    """Whether this rank is the one that tells, as no other has been within ``wait`` seconds."""
    until = time.monotonic() + wait
    try:
        while time.monotonic() < until and not store.check([FAILED]):
            time.sleep(0.05)
        return bool(store.compare_set(FAILED, "", str(rank)) == str(rank).encode())
    except (RuntimeError, ValueError):  # torchrun has gone
        return rank == 0


class _Watch(threading.Thread):
    """Ends this process where another rank has failed and it cannot end by itself.

    A rank that waits for a device, or for the network, hears of nothing: no exception, no signal.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self._store, self._over = store, threading.Event()

    def run(self) -> None:
        """Look now and then, until :meth:`end`."""
        while not self._over.wait(LOOKS):
            try:
                failed = self._store.check([FAILED])
            except RuntimeError:  # torchrun has gone, and kills what it has started
                return
            if failed:
                if not self._over.wait(GRACE):
                    os._exit(1)
                return

    def end(self) -> None:
        """Let the process end by itself."""
        self._over.set()
