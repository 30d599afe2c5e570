"""What CPU time it takes to tell data from other data, and to find examples in two splits.

    python scripts/identity_cost.py DATA

DATA is a folder with the files of MNIST and IMDB. Texts are encoded first where they were not.
"""

from __future__ import annotations

import sys
import time

import torch

from dltrain.data.images.mnist import Mnist
from dltrain.data.streams.hashes import digest, tell_duplicates
from dltrain.data.streams.source import ArraySource
from dltrain.data.text.imdb import Imdb


def measure(source: ArraySource) -> None:
    """Print what reading the splits takes, and what their hashes take."""
    begin = time.process_time()
    splits = source.splits()
    read = time.process_time()
    hashes = {name: split.hashes() for name, split in splits.items()}
    for columns in hashes.values():
        digest(columns)
    tell_duplicates(hashes)
    end = time.process_time()
    spent = f"read in {read - begin:.2f} s of CPU time, hashed in {end - read:.2f} s"
    print(f"{type(source).__name__}: {spent}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for _ in range(2):  # the second time from caches
        measure(Mnist(root=sys.argv[1]))
        measure(Imdb(copies=sys.argv[1], root="~/.cache/dltrain"))
