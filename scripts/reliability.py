"""The last long results of the proofs that docs/reliability.md lists, each under its own name."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("reliability.json")


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Write today's ``result`` as that of the proof ``name``; the others stay as they are."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[name] = {"date": datetime.date.today().isoformat(), **result}
    text = json.dumps(dict(sorted(known.items())), indent=2)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")
