"""Runs on sounds, from the command line to predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dltrain import load
from dltrain import training as run
from tests.conftest import Compose
from tests.sounds import tone, write_folder, write_wav

pytest.importorskip("soundfile", reason="pip install 'dltrain[audio]'")


def common(tmp_path: Path) -> list[str]:
    return [
        *("device=cpu", "callbacks=none", "trainer.epochs=2", "data.validation=0"),
        *(f"data.root={tmp_path}", f"output_dir={tmp_path / 'outputs'}"),
    ]


def test_a_classifier_trains_and_predicts_files(tmp_path: Path, compose: Compose) -> None:
    place = write_folder(tmp_path / "data")
    config = compose(
        *("model=audio_cnn", "data=audio_folder", f"data.path={place}", *common(tmp_path)),
        *("model.channels=[8,8]", "trainer.epochs=3", "data.batch_size=5"),
        *("data.augment.speed=0.1", "data.augment.time_masks=1", "model.dropout=0"),
        "optimizer.lr=0.02",
    )

    summary = run.train(config)

    predictor = load(next((tmp_path / "outputs").glob("*/*")))
    answers = predictor.predict([str(place / "low" / "0.wav"), str(place / "high" / "3.wav")])
    assert summary["status"] == "finished" and summary["test"].keys() >= {"loss", "accuracy"}
    assert set(answers["class"]) <= {"low", "high"} and len(answers) == 2
    one = predictor.predict(str(place / "low" / "0.wav"))
    assert one["probability"][0] == pytest.approx(answers["probability"][0], abs=1e-5)


def test_ctc_learns_to_write(tmp_path: Path, compose: Compose) -> None:
    for number, text in enumerate(["a", "b", "ab", "ba"] * 4):
        sounds = [tone({"a": 300, "b": 1500}[letter], 0.2) for letter in text]
        place = tmp_path / "data" / ("train" if number < 12 else "test")
        write_wav(place / f"{text}-{number}.wav", np.concatenate(sounds))
    config = compose(
        *("model=ctc", "data=audio_transcripts", f"data.path={tmp_path / 'data'}"),
        *("data.pattern='{text}-{number}'", *common(tmp_path), "model.channels=[8]"),
        *("model.hidden_size=16", "model.layers=1", "model.dropout=0", "data.batch_size=4"),
        *("trainer.epochs=30", "optimizer.lr=0.02"),
    )

    summary = run.train(config)

    assert summary["test"]["wer"] == 0 and summary["test"]["exact"] == 1
    predictor = load(next((tmp_path / "outputs").glob("*/*")))
    assert predictor.predict(str(tmp_path / "data" / "test" / "ab-14.wav"))["text"] == ["ab"]
