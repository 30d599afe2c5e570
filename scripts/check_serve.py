"""The page of ``dltrain serve`` in a real browser.

    python scripts/check_serve.py [--browser /usr/bin/chromium] [--images DIR]

Needs playwright (``pip install playwright``) and a Chromium; nothing is downloaded. Trains three
short runs, serves each in a process of its own, and does what a person does: chooses two images and
a file that is none, types a text with letters that HTML would read, fills in a row. Exits with 1
where an answer is missing, or the page has an error of its own. ``--images`` keeps screenshots.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dltrain import training
from dltrain.config import compose as composition

SHORT = ("trainer.steps=5", "callbacks=none", "device=cpu")
RUNS = {
    "images": ("model=logreg", "data=digits"),
    "texts": ("model=ngrams", "data=toy_reviews", "data.limit=400"),
    "rows": ("model=mlp", "data=iris"),
}
TEXT = "a fine <b>film</b> & more\n好看"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("this needs playwright: pip install playwright")
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.browser, args=["--no-sandbox"])
        for name, overrides in RUNS.items():
            train(folder, name, *overrides)
            with served(folder, name) as address:
                page = browser.new_page(viewport={"width": 900, "height": 700})
                errors: list[Any] = []

                def note(error: Any, to: list[Any] = errors) -> None:
                    to.append(error)

                page.on("pageerror", note)
                page.goto(address)
                faults += DOES[name](page, Path(folder))
                faults += [f"{name}: the page: {error}" for error in errors]
                if asked.images:
                    asked.images.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=asked.images / f"{name}.png")
                page.close()
        browser.close()
    print("\n".join(faults) or "the page answers images, texts and rows")
    sys.exit(1 if faults else 0)


def train(folder: str, name: str, *overrides: str) -> None:
    typed = [*overrides, *SHORT, f"name={name}", f"output_dir={folder}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        training.train(composition.compose(typed), typed)


@contextlib.contextmanager
def served(folder: str, run: str) -> Iterator[str]:
    """The address of a run's page, while it is served."""
    command = [sys.executable, "-m", "dltrain", "serve", run, "--output-dir", folder, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "it says no address"
        try:
            yield found[0]
        finally:
            process.terminate()


def images(page: Any, folder: Path) -> Iterator[str]:
    """Two that are answered, and one that is refused by its name."""
    paths = [folder / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((8, 8), 100 * number, np.uint8)).save(path)
    (folder / "notes.png").write_text("no image")
    page.set_input_files("#file", [*paths, folder / "notes.png"])
    page.wait_for_selector(".error")
    if page.locator(".bar").count() != 6:
        yield f"images: {page.locator('.bar').count()} bars, not three of two images each"
    if "notes.png" not in page.locator(".error").inner_text():
        yield "images: the refusal does not name the file"


def texts(page: Any, folder: Path) -> Iterator[str]:
    """One whose letters must stay letters."""
    page.fill("#text", TEXT)
    page.click("button")
    page.wait_for_selector(".bar")
    if "<b>film</b>" not in page.locator(".answer").inner_text():
        yield "texts: the text is not shown as it was typed"


def rows(page: Any, folder: Path) -> Iterator[str]:
    """A row, and one with a letter for a number."""
    page.wait_for_selector(".fields input")
    fields = page.locator(".fields input")
    for value, answer in (("3", ".bar"), ("x", ".error")):
        for number in range(fields.count()):
            fields.nth(number).fill(value)
        page.click("button")
        page.wait_for_selector(answer)
    if "not a (finite) number" not in page.locator(".error").inner_text():
        yield "rows: a letter for a number is not refused as that"


DOES = {"images": images, "texts": texts, "rows": rows}


if __name__ == "__main__":
    main()
