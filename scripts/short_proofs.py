"""The short form of four proofs in one process, which tests/test_reliability.py runs.

python scripts/short_proofs.py
"""

from __future__ import annotations

import sys

import damage_runs
import disk
import fill_disk
import forks
import kill_runs
import lose_writes


def main() -> int:
    """A few cases of each; 1 where one failed, else 0."""
    disk.with_disk()
    forks.import_everything(but_little=True)
    kind = ["--only", "lstm_adding"]
    codes = [
        kill_runs.main([*kind, "--count", "2", "--real", "0", "--seed", "1"]),
        fill_disk.main([*kind, "--count", "2", "--no-mount"]),
        lose_writes.main([*kind, "--count", "2"]),
        damage_runs.main([*kind, "--count", "1"]),
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
