"""What somebody who means harm may hand to a user of dltrain; scripts/hostile.py tries it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

EVIL = "import pathlib; pathlib.Path(__file__).parents[1].joinpath('PWNED').touch()\n"
"""A file of the folder where the command is typed."""
DIARY = "dear diary\n"
REFUSED = (2,)
ELASTIC = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"
CHECKPOINT = "checkpoints/last.pt"


class Place:
    """A case's folder: ``home`` with a diary, and ``work``, where the command is typed."""

    def __init__(self, folder: Path, trained: Path) -> None:
        self.folder, self.home, self.work = folder, folder / "home", folder / "work"
        self._trained = trained
        for made in (self.home, self.work):
            made.mkdir(parents=True)
        self.diary = self.home / "diary.txt"
        self.diary.write_text(DIARY)
        (self.work / "evil.py").write_text(EVIL)

    def run(self, status: str = "finished") -> Path:
        """A stranger's run, in the output_dir."""
        run = self.work / "outputs" / "run" / "theirs"
        shutil.copytree(self._trained, run)
        (run / "checksums.sha256").unlink(missing_ok=True)
        if status != "finished":
            summary = json.loads((run / "summary.json").read_text())
            summary = {k: v for k, v in summary.items() if k != "sha256"} | {"status": status}
            (run / "summary.json").write_text(json.dumps(summary))
        return run


Build = Callable[[Place], Sequence[str]]


@dataclass(frozen=True)
class Case:
    """``build`` makes the files and returns the words of the command."""

    name: str
    build: Build
    codes: Sequence[int] = REFUSED
    may_write: tuple[str, ...] = ("work/outputs/", "work/data/")
    quiet: bool = True


CASES: list[Case] = []


def case(name: str, build: Build, codes: Sequence[int] = REFUSED, **more: Any) -> None:
    """Add a case."""
    CASES.append(Case(name, build, codes, **more))


def warm() -> None:
    """Import what the commands need, once for all cases."""
    import matplotlib.font_manager  # noqa: F401 - which asks the system for its fonts, once

    import dltrain.commands.evaluate
    import dltrain.inference.export
    import dltrain.inference.predictor
    import dltrain.prolong
    import dltrain.training  # noqa: F401


# Configs that make what is no part of a run.
TARGETS: Mapping[str, Mapping[str, Any]] = {
    "a file here": {"_target_": "evil.Part"},
    "os.system": {"_target_": "os.system", "command": "touch ../PWNED"},
    "Popen": {"_target_": "subprocess.Popen", "args": ["touch", "../PWNED"]},
    "torch's Popen": {"_target_": f"{ELASTIC}.Popen", "args": ["touch", "../PWNED"]},
    "a handler": {"_target_": f"{ELASTIC}.SubprocessHandler", "entrypoint": "touch", "args": [1]},
    "by dltrain": {"_target_": "dltrain.runs.folder.tempfile"},
    "a private part": {"_target_": "torch.nn.modules._functions.SyncBatchNorm"},
    "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local"},
    "a package": {"_target_": "torch.package.PackageImporter", "file_or_buffer": "x"},
    "a graph": {"_target_": "torch.fx.GraphModule", "root": {}, "graph": "x"},
    "exec": {"_target_": "builtins.exec", "source": "1"},
    "numpy": {"_target_": "numpy.f2py.compile", "source": "x"},
    "pip": {"_target_": "pip._internal.cli.main.main", "args": ["install", "x"]},
}
LINEAR = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
NESTED: Mapping[str, Callable[[Any], Any]] = {
    "itself": lambda evil: evil,
    "device": lambda evil: LINEAR | {"device": evil},
    "modules": lambda evil: {"_target_": "torch.nn.ModuleList", "modules": [evil]},
    "a block": lambda evil: {
        "_target_": "torchvision.models.resnet.ResNet",
        "block": evil,
        "layers": [1, 1, 1, 1],
    },
}
PROLONG = ("resume", "RUN", "trainer.epochs=2")


def put(config: Any, key: str, value: Any) -> None:
    """Set ``key`` of a nested mapping."""
    *path, last = key.split(".")
    for name in path:
        config = config[name]
    config[last] = value


def configured(command: Sequence[str], key: str, value: Any, status: str = "finished") -> Build:
    """A command with a run whose config has ``value`` at ``key``."""

    def build(place: Place) -> Sequence[str]:
        run = place.run(status)
        config = yaml.safe_load((run / "config.yaml").read_text())
        put(config, key, value)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        return [str(run) if word == "RUN" else word for word in command]

    return build


for name, target in TARGETS.items():
    case(f"config: model is {name}, sample", configured(("sample", "RUN"), "model", target))
for where, nested in NESTED.items():
    for name in ("a file here", "torch's Popen"):
        evil = nested(TARGETS[name])
        case(f"config: {where} is {name}, evaluate", configured(("evaluate", "RUN"), "model", evil))
for key in (
    "data",
    "task",
    "trainer",
    "optimizer",
    "schedule",
    "callbacks.x",
    "regularizer.x",
    "modifiers.x",
    "data.augment",
    "data.mean",
):
    evil = TARGETS["a file here"]
    case(
        f"config: {key} of a run that goes on",
        configured(("resume", "RUN"), key, evil, "interrupted"),
    )
    case(f"config: {key} of a run that goes on for longer", configured(PROLONG, key, evil))
case(
    "config: the schedule before another",
    configured((*PROLONG, "schedule=constant"), "schedule", evil),
)
for key in ("data", "data.augment"):
    words = ("evaluate", "RUN", "data.batch_size=5")
    case(
        f"config: {key}, evaluate on changed data",
        configured(words, key, {**evil, "batch_size": 1}),
    )
for command in ("predict", "export"):
    case(f"config: {command}", configured((command, "RUN", "x"), "model", evil))
case(
    "config: init_from", configured(("model=logreg", "data=digits", "init_from=RUN"), "model", evil)
)
BIG = LINEAR | {"in_features": 100_000, "out_features": 100_000}
case("config: a network of 40 GB", configured(("evaluate", "RUN"), "model", BIG))
case("config: a network of 40 GB goes on", configured(PROLONG, "model", BIG))
case(
    "config: a device as data",
    configured(
        ("evaluate", "RUN"),
        "data",
        {"_target_": "dltrain.data.tables.csv_file.CsvTable", "path": "/dev/zero", "target": "y"},
    ),
)


def file_of_run(
    file: str, content: bytes, command: Sequence[str], status: str = "finished"
) -> Build:
    """A command with a run one of whose files is another."""

    def build(place: Place) -> Sequence[str]:
        run = place.run(status)
        (run / file).write_bytes(content)
        return [str(run) if word == "RUN" else word for word in command]

    return build


LAUGHS = b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b"*a%d, *a%d" % (n - 1, n - 1) if n else b"x") for n in range(40)
)
DEEP = b"[" * 100_000 + b"]" * 100_000
READERS: Mapping[str, Sequence[str]] = {
    "predict": ("predict", "RUN", "x.png"),
    "evaluate": ("evaluate", "RUN"),
    "longer": PROLONG,
}
for name, words in READERS.items():
    case(f"yaml: laughs, {name}", file_of_run("config.yaml", LAUGHS, words))
    case(
        f"yaml: a class, {name}",
        file_of_run(
            "config.yaml", b"model: !!python/object/apply:os.system ['touch ../PWNED']\n", words
        ),
    )
    case(f"yaml: 3 MB, {name}", file_of_run("config.yaml", b"a: 1\n" * 600_000, words))
    case(f"json: deep, {name}", file_of_run("data.json", b'{"fields": ' + DEEP + b"}", words))
case("yaml: laughs, runs", file_of_run("config.yaml", LAUGHS, ("runs",)), codes=(0,))
case("json: a reader", file_of_run("reader.json", b'{"_target_": "evil.Part"}', READERS["predict"]))
case("json: deep summary", file_of_run("summary.json", DEEP, PROLONG))
case(
    "json: a device as vocabulary",
    file_of_run(
        "reader.json",
        b'{"_target_": "dltrain.data.text.reader.TextReader", "folder": "/dev"}',
        READERS["predict"],
    ),
)


def tokenized(**change: Any) -> Build:
    """A text, and a run with a tokenizer some of whose steps are others."""

    def build(place: Place) -> Sequence[str]:
        from dltrain.data.text.vocabulary import Vocabulary

        run = place.run()
        content = json.loads(Vocabulary.learn(["a good film", "a bad film"], 10).text)
        (run / "tokenizer.json").write_text(json.dumps(content | change))
        reader = {"_target_": "dltrain.data.text.reader.TextReader"}
        (run / "reader.json").write_text(json.dumps(reader))
        return ["predict", str(run), "a" * 40]

    return build


DOUBLED = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
PADDED = {
    "strategy": {"Fixed": 3_000_000_000}, "direction": "Right", "pad_to_multiple_of": None,
    "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
}  # fmt: skip
TOKENIZERS: Mapping[str, Mapping[str, Any]] = {
    "padded to 3 billion": {"padding": PADDED},
    "a letter doubled 34 times": {
        "normalizer": {"type": "Sequence", "normalizers": [DOUBLED] * 34}
    },
    "a map that is none": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "pieces of no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "an expression without end": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}
    },
}
for name, steps in TOKENIZERS.items():
    case(f"tokenizer: {name}", tokenized(**steps))


# Checkpoints.
class Planted:
    """What leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ../PWNED",)


def checkpoint(path: Path, kind: int = zipfile.ZIP_STORED, **parts: bytes) -> None:
    """The checkpoint ``path`` with some of its parts replaced."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(path, "w", kind) as made:
        for entry in source.infolist():
            name = entry.filename.partition("/")[2].replace("/", "_").replace(".", "_")
            made.writestr(entry.filename, parts.get(name, source.read(entry)))


def saved(change: Callable[[Path], None], command: Sequence[str] = ("evaluate", "RUN")) -> Build:
    """A command with a run whose checkpoint was changed."""

    def build(place: Place) -> Sequence[str]:
        run = place.run()
        change(run / CHECKPOINT)
        return [str(run) if word == "RUN" else word for word in command]

    return build


def bytes_of(content: bytes) -> Callable[[Path], None]:
    """What writes a file of ``content``."""

    def fill(path: Path) -> None:
        path.write_bytes(content)

    return fill


def instead(path: Path, make: Callable[[Path], object]) -> None:
    """Something else in the place of a file."""
    path.unlink()
    make(path)


def with_task(value: Any) -> Callable[[Path], None]:
    """Another tensor in it."""
    return lambda path: torch.save({"format": 2, "task": {"model.weight": value}}, path)


PACKED, LISTS = zipfile.ZIP_DEFLATED, b"\x80\x02" + b"]" * (1 << 23) + b"."
LOADS = (
    b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ch%ce" % (n + 1, n, n, n) for n in range(60)) + b"."
)
SPARSE = torch.sparse_coo_tensor(
    torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10**12,), check_invariants=True
)
CHECKPOINTS: Mapping[str, Callable[[Path], None]] = {
    "packed": lambda path: checkpoint(path, PACKED, data_0=bytes(1 << 30)),
    "lists": lambda path: checkpoint(path, data_pkl=LISTS),
    "laughs": lambda path: checkpoint(path, data_pkl=LOADS),
    "a call": lambda path: checkpoint(path, data_pkl=pickle.dumps(Planted(), 2)),
    "a pickle": lambda path: bytes_of(pickle.dumps(Planted()))(path),
    "an object": lambda path: torch.save({"format": 2, "task": Planted()}, path),
    "expanded": with_task(torch.zeros(1).expand(10**12)),
    "on meta": with_task(torch.empty(10**12, device="meta")),
    "sparse": with_task(SPARSE),
    "empty": lambda path: bytes_of(b"")(path),
    "a directory": lambda path: instead(path, Path.mkdir),
    "a pipe": lambda path: instead(path, os.mkfifo),
}
for name, change in CHECKPOINTS.items():
    for words in (("evaluate", "RUN"), PROLONG):
        case(f"checkpoint: {name}, {words[0]}", saved(change, words))
    case(
        f"checkpoint: {name}, weights to begin with",
        saved(
            change, ("model=logreg", "data=digits", f"init_from=outputs/run/theirs/{CHECKPOINT}")
        ),
    )


def rewritten(change: Callable[[dict[str, Any]], None]) -> Build:
    """A run that goes on from a state that was changed."""

    def build(place: Place) -> Sequence[str]:
        run = place.run("interrupted")
        state = torch.load(run / CHECKPOINT, weights_only=True)
        change(state)
        torch.save(state, run / CHECKPOINT)
        return ["resume", str(run)]

    return build


def long_file(state: dict[str, Any]) -> None:
    """The length of metrics.csv is a terabyte."""
    for one in state["callbacks"]:
        if "length" in one:
            one["length"] = 10**12


case("checkpoint: a file of a terabyte", rewritten(long_file))


# Links and what else is no file of the run's.
def linked(name: str, command: Sequence[str], status: str, kind: str = "link") -> Build:
    """A run one of whose files is a link to the diary, or leads to nowhere but there."""

    def build(place: Place) -> Sequence[str]:
        run = place.run(status)
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        if kind == "link":
            path.symlink_to(place.diary)
        elif kind == "folder":
            path.symlink_to(place.home, target_is_directory=True)
        elif kind == "hard link":
            os.link(place.diary, path)
        else:
            os.mkfifo(path)
        return [str(run) if word == "RUN" else word for word in command]

    return build


GOES_ON = ("resume", "RUN")
WRITTEN = ("metrics.csv", "train.log", ".lock", "summary.json", "tables/test_examples.csv", "x.csv")
for name in WRITTEN:
    case(f"link: {name}, resume", linked(name, GOES_ON, "interrupted"))
for name in ("metrics.csv", "train.log", ".lock"):
    case(f"link: {name} has two names, resume", linked(name, GOES_ON, "interrupted", "hard link"))
for name in (
    *("config.yaml", "summary.json", "checksums.sha256"),
    *("data.json", "reader.json", CHECKPOINT),
):
    case(f"link: {name}, predict", linked(name, ("predict", "RUN", "x.png"), "finished"))
    case(
        f"link: {name} is a pipe, predict",
        linked(name, ("predict", "RUN", "x.png"), "finished", "pipe"),
    )
for name in ("tables", "checkpoints", "figures"):
    case(f"link: the folder {name}, resume", linked(name, GOES_ON, "interrupted", "folder"))
for name, words in {"evaluations": ("evaluate", "RUN"), "export": ("export", "RUN")}.items():
    case(f"link: the folder {name}", linked(name, words, "finished", "folder"))
for name in ("config.yaml", "summary.json", "checksums.sha256"):
    for kind in ("link", "pipe"):
        case(
            f"link: {name} is a {kind}, runs", linked(name, ("runs",), "finished", kind), codes=(0,)
        )


# Data.
def data(words: Sequence[str], **files: Callable[[Path], None]) -> Build:
    """A command that trains on files."""

    def build(place: Place) -> Sequence[str]:
        for name, fill in files.items():
            path = place.work / "data" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            fill(path)
        return words

    return build


def gz(content: bytes, more: int, times: int = 1) -> Callable[[Path], None]:
    """A packed file of ``content``, so many ``times``, and ``more`` MB of zeros."""

    def fill(path: Path) -> None:
        with gzip.open(path, "wb", 1) as file:
            for _ in range(times):
                file.write(content)
            for _ in range(more):
                file.write(bytes(1 << 20))

    return fill


def idx(count: int) -> bytes:
    """The beginning of a file of images."""
    return struct.pack(">BBBB3I", 0, 0, 8, 3, count, 28, 28)


def head(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The beginning of an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf()


def png(wide: int, high: int) -> bytes:
    """A PNG file of black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer, row = zlib.compressobj(9), bytes(1 + 3 * wide)
    rows = b"".join(packer.compress(row) for _ in range(high)) + packer.flush()
    size = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large(path: Path) -> None:
    """An image of 169 million pixels."""
    path.write_bytes(png(13000, 13000))


def parquet(path: Path) -> None:
    """One value that stands for a hundred million."""
    import pyarrow as pa
    import pyarrow.parquet

    part = pa.table({"x": [1.0] * 1_000_000, "y": ["a"] * 1_000_000})
    with pa.parquet.ParquetWriter(path, part.schema) as writer:
        for _ in range(100):
            writer.write_table(part)


MNIST, CIFAR = (
    ("model=logreg", "data=mnist", "data.root=data"),
    ("model=mlp", "data=cifar10", "data.root=data"),
)
IMAGES = "MNIST__raw__train-images-idx3-ubyte_dot_gz"
BATCHES = "cifar-10-binary_dot_tar_dot_gz"
case("data: IDX declares 3 GB", data(MNIST, **{IMAGES: gz(idx(4_000_000), 1500)}))
case("data: IDX is longer than it says", data(MNIST, **{IMAGES: gz(idx(4), 1500)}))
case(
    "data: an archive of 1.5 GB",
    data(CIFAR, **{BATCHES: gz(head("data_batch_1.bin", 1500 << 20), 1500)}),
)
case(
    "data: an archive's header of 1.5 GB",
    data(CIFAR, **{BATCHES: gz(head("x", 1500 << 20, b"x"), 1500)}),
)
case(
    "data: an archive of a million files", data(CIFAR, **{BATCHES: gz(head("x", 0), 0, 1_000_000)})
)
case(
    "data: an archive of links",
    data(CIFAR, **{BATCHES: gz(head("../../x", 0, tarfile.SYMTYPE), 1)}),
)
case(
    "data: a pickle of a batch",
    data(
        CIFAR,
        **{
            f"cifar-10-batches-py__{name}": bytes_of(pickle.dumps(Planted()))
            for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
        },
    ),
)
FOLDER = ("model=logreg", "data=image_folder", "data.path=images", "data.root=data")
case(
    "data: images of 169 megapixels",
    data(
        FOLDER,
        images__a__1_dot_png=large,
        images__b__2_dot_png=large,
    ),
)
case(
    "data: a pipe among images",
    data(FOLDER, images__a__1_dot_png=os.mkfifo, images__b__2_dot_png=os.mkfifo),
)
CSV = ("model=mlp", "data=csv", "data.target=y", "data.root=data")
case("data: a pipe as table", data((*CSV, "data.path=a.csv"), a_dot_csv=os.mkfifo))
case("data: a device as table", data((*CSV, "data.path=/dev/zero")))
case("data: standard input as table", data((*CSV, "data.path=/dev/stdin")))
case(
    "data: Parquet of a hundred million rows",
    data((*CSV, "data.path=a.parquet"), a_dot_parquet=parquet),
)
case(
    "data: deep JSON",
    data((*CSV, "data.path=a.jsonl"), a_dot_jsonl=bytes_of(b'{"y": ' + DEEP + b"}\n")),
)
case("data: a folder as table", data((*CSV, "data.path=a.csv"), a_dot_csv=Path.mkdir))
TEXTS = ("model=lstm", "data=text_csv", "data.text=a", "data.label=y", "data.root=data")
case("data: a pipe as texts", data((*TEXTS, "data.path=data/a.csv"), a_dot_csv=os.mkfifo))
case("data: a device as texts", data((*TEXTS, "data.path=/dev/zero")))
case(
    "data: column names that color",
    data((*CSV, "data.path=a.csv"), a_dot_csv=bytes_of(b"\x1b[31mx,\x9b2J\n1,2\n")),
)

# Names.
for name in ("..", ".", "", "latest", "sweeps", "'a\x1b[31mb'", "'a\\b'", "x" * 300, "'a.'", "NUL"):
    case(
        f"name: {name!a:.20}",
        lambda place, name=name: ["model=logreg", "data=digits", f"name={name}"],
    )


def renamed(place: Place) -> Sequence[str]:
    """A run whose folder's name colors."""
    place.run().parent.rename(place.work / "outputs" / "a\x1b[31mb")
    return ["runs"]


case("name: a run of such a name", renamed, codes=(0,))
case(
    "name: a class of such a name",
    configured(("evaluate", "RUN"), "model", {"_target_": "torch.nn.\x1b[31mLinear"}),
)
case(
    "name: a key of such a name", configured(("evaluate", "RUN"), "model", LINEAR | {"\x1b[31m": 1})
)
METRIC = {"status": "finished", "test": {"\x1b[31m": 1}, "monitor": "\x9b"}
case(
    "name: a metric of such a name",
    file_of_run("summary.json", json.dumps(METRIC).encode(), ("runs",)),
    codes=(0,),
)
