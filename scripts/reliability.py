"""The last long results of the proofs that docs/reliability.md lists, each under its own name."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RESULTS = Path(__file__).with_name("reliability.json")


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Write today's ``result`` as that of the proof ``name``; the others stay as they are."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[name] = {"date": datetime.date.today().isoformat(), **result}
    text = json.dumps(dict(sorted(known.items())), indent=2)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")


def gathered(futures: Sequence[Future[T]], failure: Callable[[T], str]) -> list[T]:
    """What came of each case; a ``failure``, if it is not empty, is printed at once."""
    found = []
    for future in as_completed(futures):
        found.append(future.result())
        line = failure(found[-1])
        if line:
            print(line, flush=True)
    return found


def unless_a_word(outcome: str) -> str:
    """Of outcomes that are a word, or a failure in full: the failure."""
    return outcome if ": " in outcome else ""
