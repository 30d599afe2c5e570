"""What the course's pages 18 to 22 and 31 show: sequences, words, sounds."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import nn

import dltrain
from course_runs import COLORS, Rows, Run, Shown, lines, panels, percent, runs
from result_rows import test_batches


def recurrent(outputs: Path) -> Shown:
    """The adding problem by three cells, and how far back each one's gradient reaches."""
    figure, (curves, reach) = panels(2, 8.4, 2.9)
    found, far, rows = {}, {}, []
    for run in runs(outputs):
        name = run.path.parent.name.partition("-")[0]
        found[name] = run.curve("validation", "mse")
        far[name] = gradient_by_time(run)
        rows.append([f"`model={name}`", f"{run.summary['parameters']:,}", f"{run.test('mse'):.4f}"])
    rows.append(["1, always", "", f"{1 / 6:.4f}"])
    lines(curves, found, xlabel="epoch", ylabel="validation MSE", yscale="log")
    lines(reach, far, xlabel="time step", ylabel="norm of the gradient", yscale="log")
    tables = {"adding": rows, "slips": time_first(), "padding": padding(), "ways": both_ways()}
    return Shown(figure, tables)


def gradient_by_time(run: Run) -> tuple[list[int], list[float]]:
    """Of the output by each step's input, over 32 sequences, after training."""
    inputs = next(iter(test_batches(run.path)))["input"][:32].clone().requires_grad_()
    dltrain.load(run.path).model.float()(inputs).sum().backward()
    norms = inputs.grad.norm(dim=2).mean(0)
    return list(range(1, len(norms) + 1)), norms.tolist()


def time_first() -> Rows:
    """A GRU asked which sign came first, read at the end of each axis of a (T, B, H) output."""
    rows = []
    for name, last in (
        ("`output[-1]`", lambda output: output[-1]),
        ("`output[:, -1, :]`", lambda output: output[:, -1, :]),
    ):
        torch.manual_seed(0)
        cell, head = nn.GRU(1, 16), nn.Linear(16, 2)
        optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-2)
        right = 0.0
        for step in range(301):
            signs = torch.randint(0, 2, (20,))
            inputs = 0.1 * torch.randn(20, 20, 1)  # time, batch, features: as many steps as rows
            inputs[0, :, 0] += 2.0 * signs - 1.0
            scores = head(last(cell(inputs)[0]))
            if step < 300:
                optimizer.zero_grad()
                nn.functional.cross_entropy(scores, signs).backward()
                optimizer.step()
        tried = torch.randint(0, 2, (20, 200))
        for signs in tried.T:
            inputs = 0.1 * torch.randn(20, 20, 1)
            inputs[0, :, 0] += 2.0 * signs - 1.0
            right += float((head(last(cell(inputs)[0])).argmax(1) == signs).float().mean()) / 200
        rows.append([name, percent(right)])
    return rows


def padding() -> Rows:
    """Which sign a sequence of 5 to 20 steps ends with, by an RNN; filled up with zeros to 100."""
    rows = []
    for name, whole in (("the last real one", False), ("the last one, padding read", True)):
        torch.manual_seed(0)
        cell, head = nn.RNN(1, 16), nn.Linear(16, 2)
        optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-2)
        for step in range(301):
            examples = 64 if step < 300 else 2000
            inputs = 0.1 * torch.randn(100, examples, 1)
            lengths = torch.randint(5, 21, (examples,))
            signs, every = torch.randint(0, 2, (examples,)), torch.arange(examples)
            inputs[lengths - 1, every, 0] += 2.0 * signs - 1.0
            inputs[torch.arange(100)[:, None] >= lengths] = 0.0
            states = cell(inputs)[0]
            scores = head(states[-1] if whole else states[lengths - 1, every])
            if step < 300:
                optimizer.zero_grad()
                nn.functional.cross_entropy(scores, signs).backward()
                optimizer.step()
        rows.append([name, percent(float((scores.argmax(1) == signs).float().mean()))])
    return rows


def both_ways() -> Rows:
    """The sign of the number one step earlier and one step later, said at each step by a GRU."""
    rows = []
    for name, two in (("forwards", False), ("both ways", True)):
        cells = []
        for ahead in (-1, 1):
            torch.manual_seed(0)
            cell, head = nn.GRU(1, 16, bidirectional=two), nn.Linear(32 if two else 16, 2)
            optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-2)
            for step in range(201):
                inputs = torch.randn(20, 64 if step < 200 else 1000, 1)
                asked = (inputs[..., 0] > 0).long().roll(-ahead, 0)[1:-1]
                scores = head(cell(inputs)[0])[1:-1]
                if step < 200:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(scores.flatten(0, 1), asked.flatten()).backward()
                    optimizer.step()
            cells.append(percent(float((scores.argmax(2) == asked).float().mean())))
        rows.append([name, *cells])
    return rows


def attention(outputs: Path) -> Shown:
    """How a classifier of reviews weighs the words of four of them."""
    (run,) = runs(outputs)
    predictor = dltrain.load(run.path)
    figure, axes = panels(1, 9.0, 2.4, rows=4)
    batch = next(iter(test_batches(run.path)))
    weights = predictor.model.attention_weights(batch["input"])
    names, fill = predictor.spec.input.names, predictor.spec.input.fill
    shortest = batch["input_length"].argsort()[40:44]
    for axis, row in zip(axes, shortest.tolist(), strict=True):
        ids = [int(one) for one in batch["input"][row] if int(one) != fill]
        own = weights[row, : len(ids)].detach()
        axis.set_axis_off()
        axis.set_xlim(0, 1)
        at = 0.0
        for one, weight in zip(ids, (own / own.max()).tolist(), strict=True):
            word = axis.text(at, 0.5, names[one], fontsize=9,
                             backgroundcolor=(1, 1 - 0.5 * weight, 1 - 0.9 * weight))  # fmt: skip
            at += 0.011 * (len(names[one]) + 1.8)
            word.set_clip_on(False)
    rows = [["`model=attention`", percent(run.test()), f"{run.test('loss'):.3f}"]]
    return Shown(figure, {"reviews": rows, "order": without_positions()})


def without_positions() -> Rows:
    """The output of self-attention for a text, and for the same words in another order."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    words, order = torch.randn(1, 6, 16), torch.tensor([3, 0, 5, 1, 4, 2])
    places = torch.randn(1, 6, 16)
    rows = []
    with torch.no_grad():
        for name, added in (("without positions", 0 * places), ("with positions", places)):
            straight, turned = words + added, words[:, order] + added
            one = layer(straight, straight, straight)[0].mean(1)
            two = layer(turned, turned, turned)[0].mean(1)
            rows.append([name, f"{float((one - two).abs().max()):.2g}"])
    return rows


def translation(outputs: Path) -> Shown:
    """What each character attends to in two translations, and some of the answers."""
    (run,) = runs(outputs)
    predictor = dltrain.load(run.path)
    asked = ["three thousand forty one", "seven hundred ten"]
    answers = predictor.predict([*asked, "nineteen", "nine thousand nine"])
    figure, axes = panels(2, 7.0, 3.2)
    batch = next(predictor.predict_in_parts(asked)).batch
    maps = predictor.task.attention(batch, predictor.task.predict(batch).columns)
    for axis, one in zip(axes, maps, strict=True):
        axis.imshow(one.weights.numpy(), cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(one.read)), one.read, rotation=60, fontsize=8)
        said = ["".join(DIGITS.get(sign, sign) for sign in word) for word in one.written]
        axis.set_yticks(range(len(said)), said, fontsize=8)
    rows = [[text, answer["translation"]] for text, answer in
            zip([*asked, "nineteen", "nine thousand nine"], answers, strict=True)]  # fmt: skip
    scores = [[f"{run.test(name):.1f}" for name in ("bleu", "chrf")]]
    return Shown(figure, {"answers": rows, "scores": scores})


DIGITS = dict(zip("零一二三四五六七八九", "0123456789", strict=True))
DIGITS |= {"十": "x10", "百": "x100", "千": "x1000"}
"""For machines that lack Chinese letters to draw with."""


def sounds(outputs: Path) -> Shown:
    """The spectrogram of one sound of each class."""
    (run,) = runs(outputs)
    batch = next(iter(test_batches(run.path)))
    names = dltrain.load(run.path).spec.target.names
    figure, axes = panels(3, 6.6, 2.2)
    for label, axis in enumerate(axes):
        row = int((batch["target"] == label).nonzero()[0])
        axis.imshow(batch["input"][row].T.numpy(), origin="lower", aspect="auto", cmap="magma")
        axis.set(xlabel="time, frames", ylabel="mel bands", title=names[label])
        axis.title.set_fontsize(10)
    rows = [[f"{run.summary['parameters']:,}", percent(run.test()), f"{run.test('loss'):.3f}"]]
    return Shown(figure, {"result": rows})


def language(outputs: Path) -> Shown:
    """The loss by epoch beside its bound, and what is written at three temperatures."""
    import math
    from collections import Counter

    from dltrain.contracts.pieces import text_of

    (run,) = runs(outputs)
    text = (outputs.parent / "numbers" / "train.en").read_text()
    counts = Counter(text)
    alone = -sum(n / len(text) * math.log(n / len(text)) for n in counts.values())
    bound = math.log(10_000) * text.count("\n") / len(text)
    figure, (curve,) = panels(1, 6.0, 2.9)
    lines(curve, {"validation": run.curve("validation")}, xlabel="epoch", ylabel="nats a character")
    curve.axhline(bound, linestyle="--", color="gray")
    loss = run.test("loss")
    rows = [
        [name, f"{nats:.3f}", f"{math.exp(nats):.2f}"]
        for name, nats in (
            ("frequencies", alone),
            ("`model=lstm`", loss),
            ("log 10000", bound),
        )
    ]
    predictor = dltrain.load(run.path)
    samples = []
    for temperature in (0.5, 1.0, 2.0):
        ids = predictor.task.sample_text(1, 0, 160, temperature=temperature).columns["text"][0]
        said = text_of(predictor.spec.input.names, ids.tolist())
        whole = [line for line in said.split("\n")[1:-1] if line][:3]
        samples.append([f"{temperature}", " / ".join(whole)])
    return Shown(figure, {"losses": rows, "samples": samples})


KINDS = {
    "praise": "good great wonderful brilliant moving superb strong funny fresh",
    "blame": "dull bad awful boring weak poor terrible flat clumsy silly",
    "aspects": "acting plot music story dialogue ending camera cast pace",
    "people": "sister brother mother father neighbour teacher daughter uncle",
    "days": "monday tuesday wednesday thursday friday saturday sunday",
}
"""Words of the reviews that stand in the same places, or mean the same."""
ASKED = ("monday", "sister", "plot", "good", "dull")


def word_vectors(outputs: Path) -> Shown:
    """Word vectors of a language model, of classifiers: their planes, and nearest neighbors."""
    language, *classifiers = runs(outputs)
    figure, axes = panels(2, 9.0, 3.6)
    nearest, rows = {}, []
    for axis, run, title in zip(
        axes, (language, classifiers[0]), ("language model", "classifier"), strict=True
    ):
        words, vectors = words_of(run)
        nearest[title] = neighbors(words, vectors)
        plane(axis, words, vectors, title, named=1 if run is language else 3)
    axes[0].legend(fontsize=7, frameon=False)
    torch.manual_seed(0)
    first = {"random": nn.Embedding(1000, 32).weight.detach()}
    file = (outputs.parent / "words" / "vectors.txt").read_text().splitlines()[1:]
    first["exported"] = torch.tensor([[float(cell) for cell in x.split()[1:]] for x in file])
    for run, begin in zip(classifiers, first, strict=True):
        assert (run.value("model.vectors") is None) == (begin == "random")
        norm = f"{float(first[begin].norm(dim=1).mean()):.1f}"
        early = [percent(value) for value in run.curve("validation", "accuracy")[1][:3]]
        rows.append([begin, norm, *early, percent(run.test())])
    near = [[f"*{word}*", *(nearest[title][word] for title in nearest)] for word in ASKED]
    return Shown(figure, {"neighbors": near, "beginnings": rows})


def words_of(run: Run) -> tuple[list[str], torch.Tensor]:
    """The words of a run and their vectors, of length 1, without those that are known twice."""
    predictor = dltrain.load(run.path)
    vectors = nn.functional.normalize(predictor.model.embedding_weight().detach(), dim=1)
    found = {name.removeprefix("▁"): k for k, name in enumerate(predictor.spec.input.names)}
    blank = {name[1:]: k for k, name in enumerate(predictor.spec.input.names) if name[0] == "▁"}
    places = {word: place for word, place in (found | blank).items() if word.isalpha()}
    return list(places), vectors[list(places.values())]


def neighbors(words: list[str], vectors: torch.Tensor) -> dict[str, str]:
    """The three words of the largest cosine for each of some words."""
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-1)
    return {
        word: ", ".join(
            f"{words[k]} {cosines[words.index(word), k]:.2f}"
            for k in cosines[words.index(word)].topk(3).indices.tolist()
        )
        for word in ASKED
    }


def plane(axes: Axes, words: list[str], vectors: torch.Tensor, title: str, named: int) -> None:
    """Words of some kinds in the plane of their vectors' two largest principal components."""
    places = {word: words.index(word) for names in KINDS.values() for word in names.split()}
    some = vectors[list(places.values())]
    some = some - some.mean(0)
    points = (some @ torch.linalg.svd(some, full_matrices=False)[2][:2].T).numpy()
    at = dict(zip(places, points, strict=True))
    for (kind, names), color in zip(KINDS.items(), COLORS, strict=True):
        x, y = zip(*(at[word] for word in names.split()), strict=True)
        axes.scatter(x, y, s=14, color=color, label=kind)
        for word in names.split()[:named]:
            axes.annotate(word, at[word], xytext=(3, 2), textcoords="offset points", fontsize=7)
    axes.set(title=title, xticks=[], yticks=[])
    axes.title.set_fontsize(10)


SECTIONS = {
    "31": word_vectors,
    "18": recurrent,
    "19": attention,
    "20": language,
    "21": translation,
    "22": sounds,
}
