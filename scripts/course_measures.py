"""What the course's pages 29 and 30 show: metrics, and TensorBoard."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import torch

import dltrain
from course_runs import COLORS, Rows, Shown, image, panels, percent, runs
from result_rows import splits


def metrics(outputs: Path) -> Shown:
    """Confusion matrix, ROC, precision by recall, calibration of one run; and thresholds."""
    (run,) = runs(outputs)
    _, _, inputs, targets = splits(run.path)
    with torch.no_grad():
        logits = dltrain.load(run.path).model(torch.as_tensor(inputs).float())
    score = logits.softmax(1)[:, 0].numpy()  # of being malignant
    ill = targets == 0
    figure, (matrix, roc, curve, calibration) = panels(4, 11.0, 2.8)
    counts = confusion(score >= 0.5, ill)
    matrix.imshow(counts, cmap="Blues")
    for row in (0, 1):
        for column in (0, 1):
            matrix.text(column, row, counts[row, column], ha="center", va="center")
    names = ("malignant", "benign")
    matrix.set(xticks=(0, 1), yticks=(0, 1), xticklabels=names, yticklabels=names,
               xlabel="predicted", ylabel="true")  # fmt: skip
    cuts = np.unique(np.concatenate([[0, 1.01], score]))[::-1]
    found = np.array([confusion(score >= cut, ill).ravel() for cut in cuts])  # tp, fn, fp, tn
    tp, fn, fp, tn = found.T.astype(float)
    recall, fall_out = tp / (tp + fn), fp / (fp + tn)
    roc.plot(fall_out, recall, color=COLORS[0])
    roc.plot([0, 1], [0, 1], "--", color="lightgray")
    roc.set(xlabel="false positive rate", ylabel="recall", title="ROC")
    precision = np.divide(tp, tp + fp, out=np.ones_like(tp), where=tp + fp > 0)
    curve.plot(recall, precision, color=COLORS[0])
    curve.set(xlabel="recall", ylabel="precision", title="precision by recall", ylim=(0, 1.05))
    rows = run.table("test_calibration")
    confidence = [float(row["mean_confidence"]) for row in rows]
    calibration.plot([0.5, 1], [0.5, 1], "--", color="lightgray")
    calibration.plot(confidence, [float(r["accuracy"]) for r in rows], "o-", color=COLORS[0])
    calibration.set(xlabel="confidence", ylabel="accuracy", title="calibration")
    for axis in (roc, curve, calibration):
        axis.title.set_fontsize(10)
    table = [at_threshold(score, ill, cut) for cut in (0.5, 0.2, 0.8)]
    table.append(["nobody is ill", *figures(confusion(np.zeros(len(ill), bool), ill))])
    return Shown(figure, {"thresholds": table})


def confusion(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Two rows by the truth, two columns by the answer; positives first."""
    return np.array(
        [[(said & true).sum(), (~said & true).sum()], [(said & ~true).sum(), (~said & ~true).sum()]]
    )


def at_threshold(score: np.ndarray, true: np.ndarray, cut: float) -> list[str]:
    return [f"≥ {cut}", *figures(confusion(score >= cut, true))]


def figures(counts: np.ndarray) -> list[str]:
    """Accuracy, precision, recall and F1, of the positive class."""
    (tp, fn), (fp, tn) = counts
    precision = f"{100 * tp / (tp + fp):.1f}" if tp + fp else "none"
    return [
        percent((tp + tn) / counts.sum()),
        precision,
        percent(tp / (tp + fn)),
        percent(2 * tp / (2 * tp + fp + fn)),
    ]


def tensorboard(outputs: Path) -> Shown:
    """TensorBoard's page of two runs, as a browser shows it."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    every = runs(outputs)
    port = 16006
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", outputs.name]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*command, "--port", str(port)], cwd=outputs.parent, **quiet)
    place = f"http://localhost:{port}"
    seen = outputs.parent / "tensorboard.png"
    try:
        for _ in range(120):
            try:
                urlopen(place).close()
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as browsers:
            browser = browsers.chromium.launch(executable_path="/usr/bin/chromium")
            page = browser.new_page(viewport={"width": 1200, "height": 520})
            page.goto(f"{place}/#custom_scalars")
            page.wait_for_timeout(10000)
            page.screenshot(path=seen)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    figure, (axis,) = panels(1, 9.0, 3.9)
    image(axis, Image.open(seen).convert("RGB"), interpolation="lanczos")
    rows: Rows = []
    for run in every:
        rate = run.value("optimizer.lr")
        first, last = run.curve("train")[1][0], run.curve("train")[1][-1]
        rows.append([f"`optimizer.lr={rate:g}`", f"{first:.3f}", f"{last:.3f}",
                     f"{run.validation('loss'):.3f}", percent(run.validation())])  # fmt: skip
    return Shown(figure, {"curves": rows})


SECTIONS = {"29": metrics, "30": tensorboard}
