"""Networks that read sounds, the loss and the decoding of CTC, and error rates."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec, Field
from dltrain.metrics.sounds import ClassifiedSounds, WrittenSounds
from dltrain.metrics.transcription import Transcripts, edit_distance
from dltrain.models.layers.ctc_decoding import beam_search, greedy
from dltrain.models.sequence.audio_cnn import AudioCNN
from dltrain.models.sequence.recurrent import GRU, LSTM, RNN
from dltrain.models.sequence.transcriber import Transcriber
from dltrain.tasks.ctc import Ctc
from dltrain.tasks.losses.ctc import ctc_losses

NAMES = ("<blank>", "<unk>", "▁", "a", "b")
SPEC = DataSpec(
    {
        "input": Field((None, 12), "audio", "input", fill=0.0, rate=100.0),
        "target": Field((None,), "tokens", "target", size=5, names=NAMES, fill=0),
    }
)


@pytest.mark.parametrize("network", [AudioCNN, LSTM, GRU, RNN, Transcriber])
def test_what_is_said_of_a_sound_does_not_depend_on_its_batch(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = network(SPEC, outputs=3).train()
    frames, lengths = torch.randn(6, 40, 12), torch.tensor([40, 33, 18, 7, 2, 1])
    frames *= (torch.arange(40) < lengths[:, None])[:, :, None]
    with torch.no_grad():
        model(frames, lengths)  # batch norm learns something
        model.eval()
        whole = model(frames, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(frames[row : row + 1, :length], lengths[row : row + 1])
            if isinstance(whole, tuple):
                steps = int(alone[1])
                assert int(whole[1][row]) == steps
                torch.testing.assert_close(whole[0][row, :steps], alone[0][0], atol=1e-5, rtol=0)
            else:
                torch.testing.assert_close(whole[row], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("network", "given", "message"),
    [
        (AudioCNN, {"channels": []}, "channels has one to 6 blocks"),
        (AudioCNN, {"channels": [0]}, "at least one unit"),
        (Transcriber, {"reduction": 3}, r"one of \[1, 2, 4\]"),
        (LSTM, {"forget_bias": "chrono"}, "one length"),
    ],
)
def test_what_a_network_cannot_be(
    network: type[nn.Module], given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(SPEC, outputs=3, **given)
    images = DataSpec({"input": Field((1, 8, 8), "image", "input")})
    with pytest.raises(ValueError, match="reads"):
        network(images, outputs=3)


def written(path: tuple[int, ...]) -> tuple[int, ...]:
    """What a path of outputs is written as."""
    return tuple(one for one, _ in itertools.groupby(path) if one)


def every(logs: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each transcript, by all paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(logs.shape[1]), repeat=len(logs)):
        value = math.exp(sum(float(logs[step, one]) for step, one in enumerate(path)))
        found[written(path)] = found.get(written(path), 0.0) + value
    return found


def test_loss_greedy_and_beam_search_are_those_of_all_paths() -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, 5, 3) * 2
    steps = torch.tensor([5, 4, 3, 5])
    logs = logits.log_softmax(2)
    targets, lengths = torch.tensor([[1, 2, 1], [1, 1, 0], [2, 0, 0], [0, 0, 0]]), [3, 2, 1, 0]

    losses, feasible = ctc_losses(logits, steps, targets, torch.tensor(lengths))
    found, counts = greedy(logs, steps)

    assert feasible.all()
    for row, length in enumerate(lengths):
        own = logs[row, : steps[row]]
        sums = every(own)
        wanted = -math.log(sums[tuple(targets[row, :length].tolist())])
        assert float(losses[row]) == pytest.approx(wanted, rel=1e-5)
        assert tuple(beam_search(own, 100)) == max(sums, key=lambda text: sums[text])
        best = written(tuple(own.argmax(1).tolist()))
        assert tuple(found[row, : counts[row]].tolist()) == best


def test_a_beam_finds_what_the_best_path_is_not() -> None:
    logs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()

    assert greedy(logs[None], torch.tensor([2]))[1].tolist() == [0]
    assert beam_search(logs, 4) == [1]  # 0.64 in three paths, 0.36 in one


class Fixed(nn.Module):
    """Its logits, whatever it hears."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits, lengths


def batch_of(targets: list[list[int]], lengths: list[int]) -> dict[str, Tensor]:
    longest = max(map(len, targets))
    rows = [[*row, *[0] * (longest - len(row))] for row in targets]
    return {
        "input": torch.zeros(len(targets), 4, 12),
        "input_length": torch.tensor(lengths),
        "target": torch.tensor(rows),
        "target_length": torch.tensor([len(row) for row in targets]),
    }


def test_what_is_too_long_for_its_sound_is_left_out_and_counted() -> None:
    task = Ctc(Fixed(torch.randn(2, 4, 5)), SPEC)
    batch = batch_of([[3, 4], [3, 3, 3]], [4, 4])
    seen: list[tuple[Tensor, object]] = []

    def optimize(loss: Tensor, name: str = "model", weight: object = None) -> None:
        seen.append((loss, weight))

    metrics = task.train_step(batch, optimize)
    loss, weight = seen[0]
    loss.backward()
    loss = loss.detach()

    assert float(metrics["infeasible"]) == 0.5 and int(weight) == 1
    assert torch.isfinite(loss) and float(loss) > 0
    assert not task.model.logits.grad[1].any() and task.model.logits.grad[0].any()
    none = task.train_step(batch_of([[3, 3, 3], [4, 4, 4]], [4, 4]), optimize)
    assert int(none["loss"][1]) == 0 and int(seen[1][1]) == 0 and float(seen[1][0].detach()) == 0
    empty = task.train_step(batch_of([[], []], [4, 4]), optimize)
    assert float(empty["infeasible"]) == 0


def test_error_rates_are_sums_of_edits_over_a_split() -> None:
    metric = Transcripts(NAMES, 1)
    halves = [Transcripts(NAMES, 1), Transcripts(NAMES, 1)]
    said = [[3, 2, 4], [3], [], [3, 1]]
    true = [[3, 2, 3], [3], [4], [3, 1]]  # what the alphabet lacks is an error in any case
    for one, half in zip(range(4), [0, 0, 1, 1], strict=True):
        batch = batch_of([true[one]], [4])
        outputs = {
            "hypothesis": torch.tensor([said[one]], dtype=torch.int64).view(1, -1),
            "hypothesis_length": torch.tensor([len(said[one])]),
        }
        for each in (metric, halves[half]):
            each.update(outputs, batch, torch.tensor([one]))
    halves[0].merge(halves[1])

    found = metric.compute()

    assert found.scalars == {"wer": 3 / 5, "cer": 3 / 7, "exact": 1 / 4}
    assert halves[0].compute().scalars == found.scalars
    assert found.tables["transcripts"].rows[0] == ["a a", "a b", 1]


def test_transcripts_of_words_have_both_error_rates_too() -> None:
    metric = Transcripts(("<blank>", "<unk>", "▁yes", "▁no"), 1)
    outputs = {"hypothesis": torch.tensor([[2, 3, 3]]), "hypothesis_length": torch.tensor([3])}
    metric.update(outputs, batch_of([[2, 2, 1]], [4]), torch.tensor([0]))

    found = metric.compute()

    # "yes no no" for "yes yes ?".
    assert found.scalars == {"wer": 2 / 3, "cer": 5 / 9, "exact": 0.0}
    assert found.tables["transcripts"].rows == [["yes yes \ufffd", "yes no no", 5]]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("ab", "ba", 2)],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == edits


def test_predictions_are_texts() -> None:
    from dltrain.inference.answers import Answers

    logits = torch.full((1, 4, 5), -9.0)
    for step, letter in enumerate([3, 2, 2, 4]):
        logits[0, step, letter] = 9.0
    task = Ctc(Fixed(logits), SPEC)

    answers = Answers(task.predict(batch_of([[]], [4])))

    assert answers["text"] == ["a b"] and answers["confidence"][0] > 0.99
    assert Answers.joined([answers, answers])["text"] == ["a b", "a b"]


def test_some_sounds_are_seen_and_heard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from dltrain.callbacks.events import EventFile

    fields = {**SPEC.fields, "sound": Field((None,), "audio", "other", fill=0, rate=8000)}
    spec = DataSpec(fields)
    batch = batch_of([[3, 2, 4], [4]], [4, 3])
    batch |= {
        "sound": torch.ones(2, 320, dtype=torch.int16),
        "sound_length": torch.tensor([9, 320]),
    }
    logits = torch.zeros(2, 4, 5)
    logits[0, range(4), [3, 2, 0, 4]] = 9.0
    logits[1, range(4), [3, 3, 0, 0]] = 9.0
    written, classified = WrittenSounds(spec, NAMES), ClassifiedSounds(spec, ["a", "b"])
    written.update(
        {"logits": logits, "logits_length": torch.tensor([4, 3])}, batch, torch.arange(2)
    )
    outputs = {"class": torch.tensor([0, 1]), "confidence": torch.tensor([0.9, 0.6])}
    classified.update(outputs, {**batch, "target": torch.tensor([0, 0])}, torch.arange(2))

    found, other = written.compute(), classified.compute()
    titles = [
        {axes.get_title() for axes in one.figures["spectrograms"]().axes} for one in (found, other)
    ]
    events = EventFile(tmp_path)
    for name, sound in found.sounds.items():
        events.sound(f"test/sounds/{name}", 1, sound)
    events.close()

    assert titles == [{"a b", "a, true: b"}, {"a (90%)", "b (60%), true: a"}]
    read = EventAccumulator(str(tmp_path), {"audio": 0}).Reload()
    lengths = {read.Audio(f"test/sounds/{n}")[0].length_frames for n in found.sounds}
    assert (
        lengths == {9, 320} and read.Audio("test/sounds/0")[0].encoded_audio_string[:4] == b"RIFF"
    )
