"""Memory that a step frees is there for the next one, and is given back afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from dltrain.allocator import memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        pieces = [torch.ones(5 << 20) for _ in range(8)]  # 160 MiB: glibc keeps less
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

faults()
without = faults()
with memory_kept():
    faults()
    within = faults()
    held = resident()
print(without, within, held - resident())
"""


def is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def measured(**environment: str) -> tuple[int, int, int]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=own | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    without, within, returned = map(int, done.stdout.split())
    return without, within, returned


@pytest.mark.skipif(not is_glibc(), reason="another C library has another allocator")
def test_what_a_step_frees_the_next_one_takes_without_asking_the_kernel() -> None:
    without, within, returned = measured()
    assert without > 100_000  # ten times 160 MiB, in pages of 4 KiB
    assert within < without / 10
    assert returned > 100  # MiB


@pytest.mark.skipif(not is_glibc(), reason="another C library has another allocator")
def test_what_the_user_has_told_the_allocator_stands() -> None:
    without, within, _ = measured(MALLOC_TRIM_THRESHOLD_="100000")
    assert within > without / 2
