"""Readers: a new example becomes, to the last bit, what the run's own examples became."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets as bundled

from dltrain.config.build import plan
from dltrain.contracts.data import Batch, DataSpec, Reader, Source, Stream
from dltrain.data.hub import HubImages, HubTable
from dltrain.data.images.cifar import Cifar10
from dltrain.data.images.digits import Digits
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.images.mnist import Mnist
from dltrain.data.images.wide import find_window
from dltrain.data.streams.division import hold_out_test
from dltrain.data.tables.adding import Adding
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.line import Line
from dltrain.data.tables.points import Circles, Gates, Moons
from dltrain.data.tables.reader import TableReader
from dltrain.data.tables.source import BreastCancer, Diabetes, Iris
from dltrain.data.text.hub_text import HubText
from dltrain.data.text.reader import VocabularyReader
from dltrain.data.text.text_csv import TextCsv
from dltrain.data.text.toy_reviews import ToyReviews
from tests.streams import opened

Raw = Sequence[Any]
Case = tuple[Source, Callable[[], Raw]]
CASES: dict[str, Callable[[Path], Case]] = {}


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` converts goes with the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")


def case(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
    """A source, and the raw examples of its test split in the order of the split."""
    CASES[make.__name__] = make
    return make


def rebuilt(source: Source, folder: Path) -> Reader:
    """The reader that a run folder would hold, from JSON alone."""
    made = source.reader()
    assert made is not None
    folder.mkdir(exist_ok=True)
    node = json.loads(json.dumps(made.node(folder)))
    packages = frozenset({"dltrain"})
    reader = plan(node, Reader, "reader", {"folder": folder}, packages).make()
    assert json.loads(json.dumps(reader.node(folder))) == node
    return reader


def by_row(stream: Stream) -> dict[int, Batch]:
    """Each example of a split by its place in it, cut to its own length."""
    found = {}
    for position, batch in enumerate(stream.plain()):
        for place, row in enumerate(stream.rows(0, position).tolist()):
            length = int(batch["input_length"][place]) if "input_length" in batch else None
            found[row] = {"input": batch["input"][place][:length]}
    return found


@case
def adding(tmp_path: Path) -> Case:
    source = Adding(length=9, examples=40, test_examples=10)
    return source, lambda: list(source.splits()["test"].columns["input"].numpy())


@case
def line(tmp_path: Path) -> Case:
    return Line(validation=0), lambda: [1, 2.0, np.array([3.0]), [4]]


@case
def gates(tmp_path: Path) -> Case:
    return Gates(validation=0), lambda: [(0, 0), (False + 0, 1), {"b": 0, "a": "1"}, ["1", 1.0]]


def points(source: Any) -> Case:
    return source, lambda: list(source.draw(source.test_examples, 1)[0])


@case
def moons(tmp_path: Path) -> Case:
    return points(Moons(examples=30, test_examples=10))


@case
def circles(tmp_path: Path) -> Case:
    return points(Circles(examples=30, test_examples=10))


def table(source: Any, load: Callable[..., Any], **settings: Any) -> Case:
    """The test rows as mappings from feature to number, in the features' own order reversed."""
    found = load(**settings)
    targets = torch.from_numpy(found.target)
    _, test = hold_out_test(targets if source.class_names else targets.float(), 0.2)
    names = source.feature_names

    def raw() -> Raw:
        rows = found.data[test.numpy()]
        return [dict(reversed(list(zip(names, row, strict=True)))) for row in rows]

    return source, raw


@case
def iris(tmp_path: Path) -> Case:
    return table(Iris(), bundled.load_iris)


@case
def iris_raw(tmp_path: Path) -> Case:
    return table(Iris(standardize=False, limit=50), bundled.load_iris)


@case
def breast_cancer(tmp_path: Path) -> Case:
    return table(BreastCancer(), bundled.load_breast_cancer)


@case
def diabetes(tmp_path: Path) -> Case:
    return table(Diabetes(), bundled.load_diabetes, scaled=False)


ROWS = "size,colour,age,weight,kind\n" + "".join(
    f"{i / 7},{'red' if i % 2 else 'blue'},{i % 5 or ''},{2 * i + 1},{'uvw'[i % 3]}\n"
    for i in range(60)
)
LAST = "size,colour,age,weight,kind\n3,green,,1,u\n,red, 4 ,7,v\n 5.5 ,NA,?,9,w\n1e2,blue,2,1,u\n"


def written(tmp_path: Path) -> tuple[Path, list[dict[str, str]]]:
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "train.csv").write_text(ROWS)
    (folder / "test.csv").write_text(LAST)
    return folder, list(csv.DictReader(io.StringIO(LAST)))


@case
def prices(tmp_path: Path) -> Case:
    folder, rows = written(tmp_path)
    path, second = (str(folder / f"{split}.csv") for split in ("train", "test"))
    own = CsvTable(path, target="weight", test=second, missing="mean")
    return own, lambda: rows


@case
def classes(tmp_path: Path) -> Case:
    """Cells as numbers and as nothing, and a category of numbers."""
    folder, rows = written(tmp_path)
    settings: dict[str, Any] = {"features": ["age", "size"], "categorical": ["age"]}
    path, second = (str(folder / f"{split}.csv") for split in ("train", "test"))
    own = CsvTable(path, target="kind", test=second, missing="mean", **settings)

    def raw() -> Raw:
        sizes: list[Any] = [3, None, np.float64(5.5), float("1e2")]
        return [row | {"size": size} for row, size in zip(rows, sizes, strict=True)]

    return own, raw


@case
def hub_table(tmp_path: Path) -> Case:
    folder, _ = written(tmp_path)
    # A column's type is one for both files.
    (folder / "test.csv").write_text("size,colour,age,weight,kind\n3.5,green,,1,u\n,red,4,7,v\n")

    def raw() -> Raw:
        return list(datasets.load_dataset(str(folder))["test"])

    return HubTable(str(folder), "weight", missing="mean"), raw


def test_of_rows_with_missing_cells_none_is_read_where_training_had_none(tmp_path: Path) -> None:
    folder, rows = written(tmp_path)
    source = CsvTable(str(folder / "train.csv"), target="kind", features=["size", "colour"])
    reader = (opened(source), rebuilt(source, tmp_path))[1]
    assert reader.read(rows[:1])["input"].tolist()[0][1:] == [0, 0]
    with pytest.raises(ValueError, match="example 1, column 'size' is empty"):
        reader.read(rows)
    with pytest.raises(ValueError, match=r"example 0 has no column 'colour'\. Did you mean 'color"):
        reader.read([{"size": 1, "color": "red"}])
    with pytest.raises(ValueError, match="example 0, column 'size': 'big' is not a"):
        reader.read([{"size": "big", "colour": "red"}])
    with pytest.raises(ValueError, match=r"example 0 is neither a mapping .* 2 cells of size, col"):
        reader.read([[1.0, 2.0, 3.0]])


def test_a_prediction_on_raw_rows_is_as_good_as_the_runs(tmp_path: Path) -> None:
    """Cells of iris in cm: standardized, or the network sees numbers it has never seen."""
    source, raw = iris(tmp_path)
    streams = opened(source)
    train = {n: torch.cat([b[n] for b in streams["train"].plain()]) for n in ("input", "target")}
    weights = torch.linalg.lstsq(
        torch.nn.functional.pad(train["input"], (0, 1), value=1.0),
        torch.nn.functional.one_hot(train["target"]).float(),
    ).solution

    def accuracy(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        answers = torch.nn.functional.pad(inputs, (0, 1), value=1.0) @ weights
        return float((answers.argmax(1) == targets).double().mean())

    test = next(streams["test"].plain())
    read = rebuilt(source, tmp_path).read(raw())
    assert accuracy(read["input"], test["target"]) == accuracy(**{
        f"{name}s": column for name, column in test.items()
    })  # fmt: skip


def arrays(columns: Mapping[str, torch.Tensor]) -> Raw:
    """Images (height, width) or (height, width, channels)."""
    return [image.squeeze(-1) for image in columns["input"].movedim(1, -1).numpy()]


@case
def digits(tmp_path: Path) -> Case:
    source = Digits()
    return source, lambda: arrays(source.splits()["test"].columns)


@case
def mnist(tmp_path: Path) -> Case:
    generator = np.random.default_rng(0)
    folder = tmp_path / "raw"
    folder.mkdir()
    pixels = generator.integers(0, 256, (8, 28, 28), np.uint8)
    for split in ("train", "t10k"):
        for kind, array in (("images", pixels), ("labels", np.arange(8, dtype=np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            path = folder / f"{split}-{kind}-idx{array.ndim}-ubyte"
            path.write_bytes(head + array.tobytes())
    return Mnist(str(tmp_path)), lambda: [Image.fromarray(image) for image in pixels]


@case
def cifar10(tmp_path: Path) -> Case:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 3072), np.uint8)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        content = {b"data": pixels, b"labels": [0, 1, 2, 3, 4, 9]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Cifar10(str(tmp_path)), lambda: [torch.from_numpy(image.copy()) for image in images]


def photographs(tmp_path: Path) -> Path:
    """Images of many sizes and modes."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            place = tmp_path / "images" / split / label
            place.mkdir(parents=True)
            for number, mode in enumerate(("RGB", "L", "RGBA", "P", "RGB")):
                shape = (9 + number, 14 - number, 3)
                image = Image.fromarray(generator.integers(0, 256, shape, np.uint8))
                image.convert(mode).save(place / f"{number}.png")
    return tmp_path / "images"


@case
def folder(tmp_path: Path) -> Case:
    """As paths, as texts, as bytes and as images, in turn."""
    path = photographs(tmp_path)
    kinds: list[Callable[[Path], Any]] = [Path, str, Path.read_bytes, Image.open]

    def raw() -> Raw:
        files = sorted((path / "test").rglob("*.png"))
        return [kinds[n % 4](file) for n, file in enumerate(files)]

    return ImageFolder(str(path), root=str(tmp_path), size=[6, 8], fit="pad", mean=[0.4]), raw


@case
def hub(tmp_path: Path) -> Case:
    path = photographs(tmp_path)
    settings: dict[str, Any] = {"size": 7, "channels": 1, "fit": "stretch", "memory_limit": 0}
    source = HubImages(str(path), "image", "label", root=str(tmp_path), **settings)
    return source, lambda: datasets.load_dataset(str(path))["test"]["image"]


def test_images_of_any_size_and_kind_become_the_runs(tmp_path: Path) -> None:
    reader = rebuilt(Digits(), tmp_path)
    photograph = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    assert reader.read([photograph])["input"].shape == (1, 1, 8, 8)
    for wrong, message in (
        (photograph / 255, r"example 1 is an array of float64 of shape \(30, 50, 3\), not one"),
        (np.zeros((2, 2, 5), np.uint8), "example 1 is an array of uint8"),
        (7, "example 1 is no image, but of type int"),
        (b"PNG", "example 1 is no image that can be read"),
        ("none.png", r"example 1, none\.png, is no image that can be read"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.read([photograph, wrong])


REVIEWS = ["", "a good film", "An AWFUL film<br /> so very long indeed !", "good " * 9, "unheard"]


@case
def text_csv(tmp_path: Path) -> Case:
    for name in ("train", "test"):
        lines = [f'"{text}",{n % 2}' for n, text in enumerate(REVIEWS)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    paths = (str(tmp_path / f"{name}.csv") for name in ("train", "test"))
    settings: dict[str, Any] = {"max_length": 4, "keep": "last", "vocabulary_size": 8}
    path, second = paths
    own = TextCsv(path, "text", "label", second, root=str(tmp_path), validation=0, **settings)
    return own, lambda: REVIEWS


@case
def text_bpe(tmp_path: Path) -> Case:
    _, raw = text_csv(tmp_path)
    paths = (str(tmp_path / f"{name}.csv") for name in ("train", "test"))
    path, second = paths
    settings: dict[str, Any] = {"tokens": "bpe", "vocabulary_size": 30, "max_length": 5}
    return TextCsv(path, "text", "label", second, root=None, validation=0, **settings), raw


@case
def hub_text(tmp_path: Path) -> Case:
    place = tmp_path / "texts"
    place.mkdir()
    for split in ("train", "test"):
        lines = [f'"{text}",{n % 2}' for n, text in enumerate(REVIEWS[1:])]
        (place / f"{split}.csv").write_text("\n".join(["text,label", *lines]))
    return HubText(str(place), root=str(tmp_path), validation=0), lambda: REVIEWS[1:]


@case
def toy_reviews(tmp_path: Path) -> Case:
    source = ToyReviews(examples=60, test_examples=20)
    return source, lambda: source.corpus().splits["test"].texts


def test_texts_of_other_kinds_are_refused(tmp_path: Path) -> None:
    source, _ = toy_reviews(tmp_path)
    source.read(0)
    with pytest.raises(ValueError, match="example 1 is no text; got 7"):
        rebuilt(source, tmp_path).read(["good", 7])


@pytest.mark.parametrize("examples", [[], "good"])
def test_examples_come_as_a_list_of_some(examples: Sequence[Any], tmp_path: Path) -> None:
    for make in (toy_reviews, digits, iris, adding):
        source, _ = make(tmp_path)
        source.read(0)
        with pytest.raises(ValueError, match=r"no example to read|examples come as a list"):
            rebuilt(source, tmp_path).read(examples)


def test_what_numpy_does_not_take_is_named(tmp_path: Path) -> None:
    source = Digits()
    source.read(0)
    with pytest.raises(ValueError, match=r"example 0 is a tensor of torch.bfloat16"):
        rebuilt(source, tmp_path).read([torch.zeros(8, 8, dtype=torch.bfloat16)])
    table = Iris()
    table.read(0)
    with pytest.raises(ValueError, match="example 0 is neither a mapping"):
        rebuilt(table, tmp_path).read([[1, [2]]])
    array = rebuilt(Adding(length=3), tmp_path)
    for wrong in (torch.zeros(3, 2, requires_grad=True), [[10**400, 1]] * 3):
        with pytest.raises(ValueError, match="example 0 is no array of numbers"):
            array.read([wrong])


def test_arrays_of_other_shapes_are_refused(tmp_path: Path) -> None:
    reader = rebuilt(Adding(length=3), tmp_path)
    for wrong, message in (
        ([[1, 0]], r"example 0 is of shape \(1, 2\), not \(3, 2\)"),
        ([[1, 0], [1]], "example 0 is no array of numbers"),
        ([[1, 0], [1, np.nan], [0, 0]], "example 0 has a number that is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.read([wrong])


def test_a_spec_and_a_reader_are_all_that_a_run_needs(tmp_path: Path) -> None:
    source, raw = prices(tmp_path)
    spec = source.read(0)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    read = rebuilt(source, tmp_path).read(raw())
    mean, std = torch.tensor(spec.input.mean), torch.tensor(spec.input.std)
    # What undoes the standardizing: sizes of 3, 5.5 and 100 as they were typed.
    sizes = (read["input"] * std + mean)[[0, 2, 3], 0]
    torch.testing.assert_close(sizes, torch.tensor([3.0, 5.5, 100.0]))


@pytest.mark.parametrize("name", sorted(CASES))
def test_raw_test_examples_become_the_test_split_to_the_last_bit(name: str, tmp_path: Path) -> None:
    source, raw = CASES[name](tmp_path)
    expected = by_row(opened(source, seed=3)["test"])
    examples = raw()
    read = rebuilt(source, tmp_path / "run").read(examples)

    assert len(read["input"]) == len(examples) == len(expected)
    assert read["input"].dtype == expected[0]["input"].dtype
    for row, example in expected.items():
        own = read["input"][row]
        length = len(example["input"])
        if "input_length" in read:
            assert int(read["input_length"][row]) == length
            assert not own[length:].any()
            own = own[:length]
        assert torch.equal(own, example["input"])


def test_a_reader_says_which_column_the_texts_are_in() -> None:
    reader = VocabularyReader("", ["review"])
    with pytest.raises(ValueError, match=r"no column 'review'\. Did you mean 'Review'\?"):
        reader.read([{"Review": "fine"}])


def test_settings_of_a_reader_are_checked() -> None:
    for settings, said in (
        ({"mean": [1.0], "std": [1.0, 1.0]}, "mean must be a list of 2, not of 1"),
        ({"mean": [1.0, 2.0], "std": [1.0, 0.0]}, "std must be > 0"),
        ({"fill": [1.0]}, "fill must be a list of 2, not of 1"),
    ):
        with pytest.raises(ValueError, match=said):
            TableReader(["a", "b"], **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        VocabularyReader("{}").read(["a"])


def test_standard_input_goes_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"^standard input, line 2: 1 cells"):
        list(TableReader(["a", "b"]).expand([io.StringIO("a,b\n1\n")]))


@pytest.mark.filterwarnings("error")
def test_the_window_of_numpys_numbers_is_that_of_pythons() -> None:
    for high in (255, 4095, 4096, 30000, 65535):
        assert find_window(0, np.uint16(high), whole=True) == find_window(0, high, whole=True)
