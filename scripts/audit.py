"""List what is known to be vulnerable among the versions that scripts/constraints.txt pins.

    python scripts/audit.py

It asks pip-audit (pip install pip-audit), which asks the Python Packaging Advisory Database. It is
a list and no gate: the exit code is 0 whatever it has, and where there is no network it says so.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
SECONDS = 300
OFFLINE = ("ConnectionError", "Max retries", "NameResolution", "ServiceError", "timed out")


def main() -> None:
    """Print what there is to say."""
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit is not installed: nothing was looked up. pip install pip-audit")
        return
    words = ["-r", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"no answer within {SECONDS} s: nothing was looked up.")
        return
    if done.returncode and any(word in done.stderr for word in OFFLINE):
        print("there is no network: nothing was looked up.")
        return
    print(done.stdout or done.stderr)
    print("A list, and no gate: see SECURITY.md.")


if __name__ == "__main__":
    main()
