"""``dltrain export RUN``: a trained network as a file that works without dltrain.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.errors import UserError, printable_lines
from dltrain.runs.finding import find_run

if TYPE_CHECKING:
    from dltrain.inference.predictor import Predictor
    from dltrain.runs.examples import Examples
    from dltrain.runs.folder import RunFolder

FORMATS = ("onnx", "torch")
GIVEN = "given"
"""The split of examples that were typed."""
LEAST = 2
"""Times smaller that a file of 8-bit integers is at least, where most of it has become such."""
VECTORS = "vectors.txt"


def export(arguments: Sequence[str]) -> int:
    """Write a run's networks, compare them, and say so; return the exit code.

    Raises :class:`UserError` for what cannot be exported, or differs from the run.
    """
    asked = _parser().parse(arguments)
    folder = find_run(asked.run, asked.output_dir)
    if asked.int8 and asked.format != "onnx":
        raise UserError("export: --int8 writes ONNX: leave out --format torch.")
    if asked.vectors and (asked.int8 or asked.format != "onnx" or asked.more):
        raise UserError(
            "export: --vectors writes a text file of word vectors: leave out --int8, --format and "
            "INPUT."
        )
    kind = "vectors" if asked.vectors else "int8" if asked.int8 else asked.format
    out = Path(asked.out).expanduser() if asked.out else folder.place("export") / kind
    if out.exists() and not out.is_dir():
        raise UserError(f"export: --out: {out} is a file; give a folder.")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    if asked.vectors:
        return _write_vectors(folder, asked.weights, out, asked.json)
    from dltrain.inference.export import export as write
    from dltrain.inference.export import require
    from dltrain.inference.predictor import Predictor
    from dltrain.runs.examples import examples_of_run

    require(asked.format)
    predictor = Predictor(folder, asked.weights)
    examples = _read(predictor, asked.more) if asked.more else examples_of_run(folder)
    measured = None
    if asked.int8:
        from dltrain.inference.int8 import training_examples

        measured = examples if asked.more else training_examples(folder)
    try:
        made = write(predictor, examples, asked.format, out, measured)
    except OSError as error:
        raise UserError(f"export: {out} cannot be written: {error.strerror}.") from error
    if asked.json:
        print(json.dumps({"folder": str(out), "files": made.files, **made.about}))
        return 0
    about = made.about["examples"]
    split = "given" if about["split"] == GIVEN else f"of the {about['split']} split"
    for network in made.about["networks"].values():
        drawn = "drawn" in network["inputs"][0]
        what = "random inputs" if drawn else f"{about['count']} examples {split}"
        print(f"{network['file']}: differs by {network['largest_difference']:.1e} on {what}")
        if asked.int8:
            _print_int8(network, made.about["measured"])
    print(printable_lines(f"{', '.join(made.files)} in {out}"))
    return 0


def _write_vectors(folder: RunFolder, weights: str | None, out: Path, as_json: bool) -> int:
    """Write the file of word vectors, and say what is in it."""
    from dltrain.inference.predictor import Predictor
    from dltrain.runs.word_vectors import write_vectors

    predictor = Predictor(folder, weights)
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = write_vectors(predictor.task, predictor.spec.input, out / VECTORS)
    except OSError as error:
        raise UserError(f"export: {out} cannot be written: {error.strerror}.") from error
    if as_json:
        print(json.dumps({"folder": str(out), "files": [VECTORS], **asdict(made)}))
        return 0
    for reason, count in made.left_out.items():
        print(f"left out: {count:,} {'token' if count == 1 else 'tokens'}, {reason}")
    print(f"{made.words:,} words of {made.width} numbers, for model.vectors=FILE and others")
    print(printable_lines(f"{VECTORS} in {out}"))
    return 0


def _print_int8(network: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """What became of a network with 8-bit integers."""
    before, after = network["float_bytes"], network["bytes"]
    print(f"  {after:,} bytes, {before / after:.2f} times smaller than in float32 ({before:,})")
    if before < LEAST * after:
        print(
            "  that is little: only the weights of dense layers and convolutions become integers, "
            "and each layer adds its ranges"
        )
    for name, others in network["other_classes"].items():
        print(
            f"  another {name} for {others:,} of {measured['count']:,} {measured['split']} examples"
        )


def _parser() -> Parser:
    parser = Parser(
        "export",
        "A trained network as a file that works without dltrain: images, token ids or a table's "
        "features in; probabilities, values or images out. The file is read back and compared with "
        "the run, on examples that the run keeps or on INPUT, as predict takes it. Beside it are "
        "export.json, which says all there is to know, and use.py, a short script that uses it.",
        ["latest", "latest --int8", "latest --format torch --out digits/"],
        more="[INPUT …]",
    )
    add = parser.add_argument
    add(
        "--format", choices=FORMATS, default="onnx",
        help="onnx (default), or torch: a .pt2 program of torch.export",
    )  # fmt: skip
    add(
        "--int8", action="store_true",
        help="8-bit integers in dense layers and convolutions; ranges by training data or INPUT",
    )  # fmt: skip
    add(
        "--vectors", action="store_true",
        help="instead the word vectors, as a text file in the format of word2vec",
    )  # fmt: skip
    add(
        "--out", metavar="DIR",
        help="where to (default RUN/export/FORMAT, RUN/export/int8 or RUN/export/vectors)",
    )  # fmt: skip
    add("--json", action="store_true", help="print what export.json holds, on one line")
    parser.add_weights()
    return parser


def _read(predictor: Predictor, typed: Sequence[str]) -> Examples:
    """The first examples of what was typed."""
    from dltrain.runs.examples import COUNT, Examples

    try:
        some = list(islice(predictor.reader.expand(map(_input, typed)), COUNT))
        return Examples(GIVEN, predictor.reader.read(some))
    except (ValueError, OSError) as error:
        raise UserError(f"export: {error}") from error


def _input(word: str) -> Path | str:
    """A file or folder that is there, or the word itself."""
    path = Path(word).expanduser()
    try:
        return path if word and path.exists() else word
    except (OSError, ValueError):  # too long for a path, or with a zero byte: a text
        return word
