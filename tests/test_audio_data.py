"""Sounds: what is read of files, what is refused, and which batches come of them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dltrain.contracts.data import Placement
from dltrain.data.audio.alphabet import Alphabet, frames_needed, plain
from dltrain.data.audio.augment import AudioAugment
from dltrain.data.audio.decode import UnreadableError, read_sound
from dltrain.data.audio.features import FeatureKind, Features, FeatureSettings, real
from dltrain.data.audio.folder import AudioFolder
from dltrain.data.audio.reader import AudioReader
from dltrain.data.audio.strings import AudioStrings
from dltrain.data.audio.transcripts import AudioTranscripts
from dltrain.errors import UserError
from tests.conftest import REPOSITORY
from tests.sounds import tone, write_folder, write_wav
from tests.streams import CPU

soundfile = pytest.importorskip("soundfile", reason="pip install 'dltrain[audio]'")

PLACE = Placement(CPU, 0)
LIBROSA = {
    "logmel": ([0, 10, 20, 39], [-21.94061, -28.46677, -33.0329, -60.29779]),
    "mfcc": ([0, 1, 10, 19], [-203.86826, 2.84432, 6.13515, -2.4496]),
}
"""Of the frames 0, 10, 20 and 29 of FSDD's 0_george_0.wav, features and their values by librosa
0.11 in float64."""


def unreadable(content: bytes, **given: float) -> str:
    with pytest.raises(UnreadableError) as error:
        read_sound(content, 8000, **given)
    return str(error.value)


@pytest.mark.parametrize(
    ("format", "subtype", "near"),
    [
        *(("WAV", "PCM_16", 0), ("WAV", "PCM_24", 0), ("FLAC", "PCM_24", 0), ("WAV", "FLOAT", 0)),
        *(("AIFF", "PCM_16", 0), ("WAV", "PCM_U8", 256), ("OGG", "VORBIS", 900)),
        ("MP3", "MPEG_LAYER_III", 900),
    ],
)
def test_sounds_of_every_kind_are_the_same_samples(
    format: str, subtype: str, near: int, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    samples = np.stack([tone(440)] * 2, 1) / 32768
    soundfile.write(path, samples, 8000, format=format, subtype=subtype)

    found = read_sound(path, 8000)

    heard = slice(100, 1000)  # MP3 loses an end
    assert np.abs(found.samples[heard].astype(int) - tone(440)[heard]).max() <= near
    assert found.header.channels == 2 and not found.clipped and not found.silent


@pytest.mark.parametrize("rate", [4000, 11_025, 44_100, 96_000])
def test_any_rate_becomes_the_one_that_is_asked_for(rate: int, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(440, 0.5, rate), rate)

    found = read_sound(path, 8000).samples

    assert len(found) == 4000
    middle = slice(500, 3500)  # a filter rings where a sound begins and ends
    assert np.abs(found[middle] - tone(440, 0.5)[middle].astype(int)).max() < 80


def test_what_is_no_sound_says_why(tmp_path: Path) -> None:
    whole = write_wav(tmp_path / "a.wav", tone(440)).read_bytes()
    flac = tmp_path / "a.flac"
    soundfile.write(flac, tone(440), 8000)

    assert "it is empty" in unreadable(b"")
    assert "it is a text" in unreadable(b"words,\nnot sound")
    assert "Format not recognised" in unreadable(whole[:4])
    assert unreadable(write_wav(tmp_path / "b.wav", tone(1, 0)).read_bytes()) == "has no sample"
    assert "to its end" in unreadable(flac.read_bytes()[:600])
    assert "lasts 0.2 seconds, of 0.1 at most" in unreadable(whole, most_seconds=0.1)
    numbers = tmp_path / "c.wav"
    soundfile.write(numbers, np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    assert "no finite numbers" in unreadable(numbers.read_bytes())
    header = bytearray(whole)
    header[24:28] = (2_000_000_000).to_bytes(4, "little")
    assert "2,000,000,000 samples a second" in unreadable(bytes(header))
    assert read_sound(whole[:1000], 8000).short


def test_silence_one_sample_and_clipping_are_told(tmp_path: Path) -> None:
    one = read_sound(write_wav(tmp_path / "a.wav", tone(440, 0.0002)), 8000)
    loud = np.clip(tone(440).astype(int) * 9, -32768, 32767)

    assert len(one.samples) == 1 and one.silent
    assert read_sound(write_wav(tmp_path / "b.wav", loud), 8000).clipped


@pytest.mark.parametrize("kind", LIBROSA)
def test_frames_are_those_of_librosa(kind: FeatureKind) -> None:
    root = Path(os.environ.get("DLTRAIN_DATA") or REPOSITORY.parent / "shared" / "data")
    path = root / "fsdd" / "recordings" / "0_george_0.wav"
    if not path.exists():
        pytest.skip(f"no spoken digits: there is no {path}; DLTRAIN_DATA names the folder above")
    places, values = LIBROSA[kind]
    samples = torch.from_numpy(read_sound(path, 8000).samples[None])

    found = Features(FeatureSettings(kind), 8000, CPU)(samples)[0]

    assert found.shape == (30, 40 if kind == "logmel" else 20)
    wanted = torch.tensor(values)
    torch.testing.assert_close(found[[0, 10, 20, 29], places], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["logmel", "mfcc"])
def test_frames_are_those_of_the_installed_librosa(kind: FeatureKind) -> None:
    librosa = pytest.importorskip("librosa")
    samples = tone(440) / 32768.0
    shape = {"n_fft": 256, "hop_length": 80, "win_length": 200, "n_mels": 40}
    mels = librosa.feature.melspectrogram(
        y=samples, sr=8000, center=True, pad_mode="constant", **shape
    )
    wanted = librosa.power_to_db(mels, top_db=None)
    if kind == "mfcc":
        wanted = librosa.feature.mfcc(S=wanted, n_mfcc=20)

    found = Features(FeatureSettings(kind=kind), 8000, CPU)(torch.from_numpy(tone(440)[None]))[0]

    np.testing.assert_allclose(found.T.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_a_folder_becomes_batches_that_its_reader_makes_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = write_folder(tmp_path / "data")
    (place / "low" / "notes.txt").write_text("nothing")
    source = AudioFolder(str(place), root=str(tmp_path), batch_size=4, stratify=True)

    spec = source.read(0)
    streams = source.open(PLACE)
    batches = list(streams["test"].plain())
    frames = torch.cat(
        [
            batch["input"][real(batch["input_length"], batch["input"].shape[1])]
            for batch in streams["train"].plain()
        ]
    )
    read = source.reader().read([str(place / "low" / "5.wav"), tone(300, 0.05)])

    assert spec.class_names == ("high", "low") and spec.input.shape == (None, 40)
    assert spec.input.rate == 100 and sum(spec.target.counts) == 9
    torch.testing.assert_close(frames.mean(0), torch.zeros(40), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std(0), torch.ones(40), atol=1e-1, rtol=0)
    assert "not used: no sound 1 (notes.txt)" in caplog.text
    assert "12 sounds of 0.05 to 0.2 seconds" in caplog.text
    alone = source.reader().read([tone(300, 0.05)])
    length = int(alone["input_length"][0])
    torch.testing.assert_close(read["input"][1, :length], alone["input"][0], atol=1e-5, rtol=0)
    assert not read["input"][1, length:].any()
    assert sum(len(batch["target"]) for batch in batches) == 2
    again = AudioFolder(str(place), root=str(tmp_path), batch_size=4, stratify=True)
    assert again.read(0) == spec and again.identity() == source.identity()


def test_files_that_cannot_be_read_are_refused_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = write_folder(tmp_path / "data")
    (place / "low" / "text.wav").write_text("no sound at all")
    with pytest.raises(UserError, match=r"text.wav is no sound .*a text\n.*skip_unreadable=true"):
        AudioFolder(str(place), root=str(tmp_path)).read(0)

    AudioFolder(str(place), root=str(tmp_path), skip_unreadable=True).read(0)

    assert "left out of the train split: 1" in caplog.text


def test_names_of_files_say_class_and_split(tmp_path: Path) -> None:
    for digit in "01":
        for speaker in ("ann", "bob"):
            for index in range(3):
                write_wav(tmp_path / "a" / f"{digit}_{speaker}_{index}.wav", tone(300 + index))
    given = {"root": str(tmp_path), "pattern": "{label}_{speaker}_{index}", "validation": 0}

    def test_files(**more: object) -> set[str]:
        source = AudioFolder(str(tmp_path / "a"), **given, **more)
        source.read(0)
        return {Path(one).stem for part in source.labeled("test") for one in part.examples}

    assert test_files(test_where={"index": "[0-1]", "speaker": "ann"}) == {
        *("0_ann_0", "0_ann_1", "1_ann_0", "1_ann_1")
    }
    assert test_files(test_where="speaker=a*") == test_files(test_where={"speaker": "ann"})
    assert {name[2:5] for name in test_files(group="speaker", test=0.5)} in ({"ann"}, {"bob"})
    with pytest.raises(ValueError, match=r"test_where: there is no column 'speaked'\. Did you"):
        test_files(test_where={"speaked": "ann"})
    with pytest.raises(ValueError, match="of no sound of 12"):
        test_files(test_where={"speaker": "cid"})


def test_a_table_gives_labels_and_its_faults_have_a_line(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "data")
    table = tmp_path / "labels.csv"
    lines = [f"{n}/{i}.wav,{n}" for n in ("low", "high") for i in range(6)]

    def read(*more: str) -> AudioFolder:
        table.write_text("\n".join(["file,label", *lines, *more]))
        source = AudioFolder(str(place), root=str(tmp_path), labels=str(table))
        source.read(0)
        return source

    assert read().class_names == ["high", "low"]
    with pytest.raises(ValueError, match=r"labels.csv, line 14: low/0 is in line 2 too"):
        read("low/0,low")


def spoken(place: Path, texts: dict[str, str], seconds: float = 0.3) -> None:
    for number, (name, text) in enumerate(texts.items()):
        write_wav(place / f"{name}.wav", tone(300 + 50 * number, seconds))
        (place / f"{name}.txt").write_text(text, encoding="utf-8")


def test_transcripts_become_letters_and_what_is_doubtful_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoken(tmp_path / "a" / "train", {"1": "你好  Ab", "2": "b", "3": "", "4": "a" * 40})
    spoken(tmp_path / "a" / "test", {"5": "zu"})
    source = AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path), validation=0)

    spec = source.read(0)
    batches = list(source.open(PLACE)["train"].plain())
    rows = {
        tuple(row[:n].tolist())
        for batch in batches
        for row, n in zip(batch["target"], batch["target_length"], strict=True)
    }

    assert spec.target.names == ("<blank>", "<unk>", "▁", "a", "b", "你", "好")
    assert (5, 6, 2, 3, 4) in rows and () in rows
    assert spec.target.counts[3] == 41
    assert "1 transcripts are empty" in caplog.text
    assert "have letters that no training transcript has, each an error in any case: zu" in (
        caplog.text
    )
    assert "1 sounds are shorter than their transcripts" in caplog.text
    assert "4.wav (31 frames, 79 needed)" in caplog.text
    with pytest.raises(ValueError, match=r"1\.txt: '你' is not in data.alphabet"):
        AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path), alphabet=" ab").read(0)


def test_transcripts_become_words_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoken(tmp_path / "a" / "train", {"1": "Yes  no", "2": "no", "3": "no no"})
    spoken(tmp_path / "a" / "test", {"5": "yes maybe not"})
    words = {"root": str(tmp_path), "validation": 0, "tokens": "word"}
    source = AudioTranscripts(str(tmp_path / "a"), **words)

    spec = source.read(0)

    assert spec.target.names == ("<blank>", "<unk>", "▁no", "▁yes")
    assert spec.target.counts == (0, 0, 4, 1)
    assert "have words that no training transcript has, each an error in any case: maybe not" in (
        caplog.text
    )
    (batch,) = source.open(PLACE)["test"].plain()
    assert batch["target"].tolist() == [[3, 1, 1]]
    with pytest.raises(ValueError, match=r"1\.txt: 'yes' is not in data.alphabet.* such words"):
        AudioTranscripts(str(tmp_path / "a"), alphabet="no maybe", **words).read(0)
    with pytest.raises(ValueError, match="alphabet has each word once"):
        AudioTranscripts(str(tmp_path / "a"), alphabet="no no", **words)


def test_transcripts_beside_sounds_are_used_and_what_is_not_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spoken(tmp_path / "a", {"1": "a", "2": "b", "3": "c"})
    for name in ("4", "5", "6"):
        write_wav(tmp_path / "a" / f"{name}.wav", tone(300, 0.3))
    (tmp_path / "a" / "x.trans.txt").write_text("4 a b", encoding="utf-8")
    (tmp_path / "a" / "y.trans.txt").write_text("5 b c", encoding="utf-8")
    (tmp_path / "a" / "notes.txt").write_text("notes", encoding="utf-8")
    source = AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path), validation=0)
    source.read(0)

    assert "not used: sounds without a transcript 1 (6.wav); no sound 1 (notes.txt)" in caplog.text


def test_a_line_of_transcripts_ends_where_the_file_says(tmp_path: Path) -> None:
    spoken(tmp_path / "a" / "test", {"3": "a"})
    (tmp_path / "a" / "train").mkdir()
    for name in ("1", "2"):
        write_wav(tmp_path / "a" / "train" / f"{name}.wav", tone(300, 0.3))
    listed = tmp_path / "a" / "train" / "x.trans.txt"
    listed.write_text("1 a\u2028b\u0085c\r\n2 d e\n", encoding="utf-8")
    source = AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path), validation=0)

    assert source.read(0).target.names == ("<blank>", "<unk>", "▁", *"abcde")
    listed.write_text("1 a\n2 d\0e\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.trans\.txt, line 2 has a NUL byte"):
        AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path), validation=0).read(0)


def test_letters_that_a_given_alphabet_lacks_are_said_to_be_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoken(tmp_path / "a" / "train", {"1": "a 你", "2": "b"})
    spoken(tmp_path / "a" / "test", {"3": "你"})
    settings = {"root": str(tmp_path), "validation": 0, "alphabet": "ab ", "unknown": "drop"}
    AudioTranscripts(str(tmp_path / "a"), **settings).read(0)

    assert "letters that data.alphabet lacks are dropped from 1 training transcripts" in caplog.text
    assert "test split: 1 transcripts have letters that data.alphabet lacks" in caplog.text


def test_transcripts_that_are_all_too_long_for_their_sounds_are_refused(tmp_path: Path) -> None:
    spoken(tmp_path / "a", {"1": "a" * 90, "2": "b" * 90, "3": "c" * 90})
    with pytest.raises(ValueError, match="and so are all others to train on"):
        AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path)).read(0)


def test_text_of_no_utf_8_is_named(tmp_path: Path) -> None:
    spoken(tmp_path / "a", {"1": "a", "2": "b", "3": "c"})
    (tmp_path / "a" / "2.txt").write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"2.txt is no UTF-8 text: .* at byte 2"):
        AudioTranscripts(str(tmp_path / "a"), root=str(tmp_path)).read(0)


def test_strings_are_joined_of_one_speaker_and_one_split(tmp_path: Path) -> None:
    for index in range(4):
        for speaker in ("ann", "bob"):
            write_wav(tmp_path / "a" / f"{index}_{speaker}_{index}.wav", tone(300, 0.1 + index / 9))
    source = AudioStrings(
        *(str(tmp_path / "a"),),
        root=str(tmp_path),
        test_where={"index": "[01]"},
        strings=10,
        test_strings=6,
        pause=0.0,
        validation=0,
        alphabet="0123 ",
    )
    source.read(0)

    for name, digits in (("train", "23"), ("test", "01")):
        for batch in source.open(PLACE)[name].plain():
            for own, ids, count in zip(
                batch.get("sound_length", []), batch["target"], batch["target_length"], strict=True
            ):
                names = [source.target().names[one] for one in ids[:count].tolist()]
                words = [one for one in names if one != "▁"]
                assert set(words) <= set(digits) and len(names) == 2 * len(words) - 1
                assert int(own) == sum(int((0.1 + int(w) / 9) * 8000) for w in words)


def test_letters_and_the_frames_that_they_need() -> None:
    alphabet = Alphabet.learn(["a b"])

    assert plain(" E\u0301a_B ", True, {"_": " "}) == "éa b"
    assert alphabet.encode("b ax") == [4, 2, 3, 1] and alphabet.lacks("axxb") == ["x"]
    assert frames_needed([1, 1, 2]) == 4 and frames_needed([]) == 0


class Drawn:
    seed = epoch = 0
    final = False
    rows = torch.arange(2)

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)


def test_augmentation_changes_sounds_alone_and_is_drawn_by_its_generator(tmp_path: Path) -> None:
    source = AudioFolder(str(write_folder(tmp_path / "data")), root=str(tmp_path))
    source.augment = AudioAugment(0.1, 0.02, 6, 1.0, (10, 20), 1, 0.1, 0.5, 1, 8)
    source.read(0)
    fields = source.outline().fields
    sounds = torch.zeros(2, 900, dtype=torch.int16)
    sounds[0], sounds[1, :500] = (
        torch.from_numpy(tone(300, 0.1125)),
        torch.from_numpy(tone(500))[:500],
    )
    batch = {"sound": sounds, "sound_length": torch.tensor([900, 500])}

    one = source.augment(batch, Drawn(), {"sound": fields["sound"]})
    other = source.augment(batch, Drawn(), {"sound": fields["sound"]})

    assert torch.equal(one["sound"], other["sound"])
    lengths = one["sound_length"]
    assert ((lengths / batch["sound_length"]) - 1).abs().max() < 0.12
    assert not one["sound"][1, lengths[1] :].any() and one["sound"][1, : lengths[1]].any()
    frames = {"input": torch.ones(2, 50, 40), "input_length": torch.tensor([50, 20])}
    masked = source.augment(frames, Drawn(), {"input": fields["input"]})["input"]
    assert 0 < int((masked == 0).sum()) < masked.numel() / 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mels": 1}, "mels must be at least 2"),
        ({"rate": 8000, "high": 5000.0}, "nothing above 4,000 Hz"),
        ({"max_seconds": 0}, "max_seconds must be above 0"),
        ({"labels": "a.csv", "pattern": "{label}"}, "give one of them"),
        ({"test_where": {}}, "test_where names columns"),
        ({"test_where": "theo"}, "test_where is COLUMN=PATTERN"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_reading(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AudioFolder("nowhere", **given)


def test_a_reader_refuses_what_is_no_sound() -> None:
    reader = AudioReader(8000, [0.0] * 40, [1.0] * 40, max_seconds=1.0)

    for example, message in (
        (3, "example 0 is no sound, but of type int"),
        (np.zeros((2, 2)), "not samples"),
        (np.zeros(9000, np.int16), "lasts 1.1 seconds"),
        ("missing.wav", "missing.wav, cannot be read: No such file"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.read([example])


def test_a_reader_tells_what_is_doubtful_in_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = AudioReader(8000, [0.0] * 40, [1.0] * 40)
    silent = write_wav(tmp_path / "a.wav", np.zeros(4000))
    both = write_wav(tmp_path / "b.wav", np.stack([tone(300), tone(300)], 1))
    cut = write_wav(tmp_path / "c.wav", tone(300))
    cut.write_bytes(cut.read_bytes()[:2000])

    reader.read([silent, both, str(cut)])
    assert caplog.messages == [
        "several channels: 1 (b.wav): their mean is used.",
        "silent: 1 (a.wav): there is nothing to hear.",
        "cut short: 1 (c.wav): the file ends before its header says.",
    ]
