"""Series that tests forecast."""

from __future__ import annotations

from pathlib import Path


def write_series(path: Path, steps: int = 120) -> Path:
    """Two series that come back every 6 and every 5 hours."""
    rows = [
        f"2024-01-{1 + n // 24:02} {n % 24:02}:00,{20 + 3 * (n % 6)},{100 - (n % 5)}"
        for n in range(steps)
    ]
    path.write_text("when,a,b\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path
