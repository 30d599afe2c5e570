"""Memory that a step frees is there for the next one, and is given back afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.conftest import expect_speed

PROGRAM = """
import ctypes, resource
import torch
from dltrain.engine.malloc import give_back, memory_kept

mallinfo = ctypes.CDLL(None).mallinfo2

class Info(ctypes.Structure):
    _fields_ = [(f"field_{n}", ctypes.c_size_t) for n in range(10)]

mallinfo.restype = Info

def from_kernel(count=8):
    before = mallinfo().field_3  # pieces that came from the kernel each by itself
    pieces = [torch.ones(30 << 18) for _ in range(count)]  # of 30 MiB
    return mallinfo().field_3 - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

without = from_kernel()
with memory_kept():
    within = from_kernel()
    held = resident()
    give_back()
    at_a_checkpoint = held - resident()
    from_kernel()
    held = resident()
returned = held - resident()
print(without, within, from_kernel(16), at_a_checkpoint, returned)
"""


def is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")


def measured(**environment: str) -> tuple[int, ...]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=own | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(not is_glibc(), reason="no mallinfo2: not glibc, or an old one")
def test_what_a_step_frees_the_next_one_takes_without_asking_the_kernel() -> None:
    without, within, after, at_a_checkpoint, returned = measured()
    if without != 8:
        pytest.skip("slow, perhaps: torch's memory does not come from malloc here")
    expect_speed(within == 0, f"{within} of 8 freed pieces come from the kernel again")
    assert after >= 8, "what does not fit into the heap comes from the kernel again"
    expect_speed(at_a_checkpoint >= 8 * 30, f"{at_a_checkpoint} MiB of 240 are given back")
    expect_speed(returned >= 8 * 30, f"{returned} MiB of 240 are given back")


@pytest.mark.skipif(not is_glibc(), reason="no mallinfo2: not glibc, or an old one")
def test_what_the_user_has_told_the_allocator_stands() -> None:
    without, within, after, *_ = measured(MALLOC_MMAP_THRESHOLD_="1000000")
    assert (within, after) == (without, 2 * without)
