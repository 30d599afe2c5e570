"""``use.py``: a short script that uses an exported network, without dltrain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.inference.use_table import table

NAME = "use.py"

HEAD = '''\
"""{summary}, without dltrain: python use.py {arguments}."""
{imports}
{asked}here = Path(__file__).parent
about = json.loads((here / "export.json").read_text(encoding="utf-8"))
network, steps = about["networks"][{network}], about["preprocessing"]
'''

ASKED = """\
if not sys.argv[1:]:
    sys.exit(__doc__)
"""

IMAGES = """\
names, inputs = sys.argv[1:], {{"image": []}}
for name in names:
    image = Image.open(name)
    if image.mode[0] in "IF" or ";16" in str(image.tile):
        sys.exit(f"{{name}} has more than 8 bits a pixel, which this script does not read")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if steps["channels"] == 1 else "RGB")
    size = steps["width"], steps["height"]
    if image.size != size:
        image = {fit}
    pixels = np.asarray(image, np.uint8)
    inputs["image"].append(np.atleast_3d(pixels).transpose(2, 0, 1))
inputs["image"] = np.stack(inputs["image"])
"""
FITS = {
    "crop": "ImageOps.fit(image, size, Image.Resampling.BILINEAR)",
    "pad": "ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=0)",
    "stretch": "image.resize(size, Image.Resampling.BILINEAR)",
    None: 'sys.exit(f"{name} is of another size than {size}")',
}

TEXTS = """\
names = sys.argv[1:]
encodings = Tokenizer.from_file(str(here / steps["tokenizer"])).encode_batch(names)
rows = [encoding.ids or [steps["empty"]] for encoding in encodings]
length = max(network["inputs"][0]["shortest"], *map(len, rows))
ids = [row + [steps["pad"]] * (length - len(row)) for row in rows]
inputs = {"ids": np.array(ids, np.int64)}
"""

ARRAYS = """\
(about_input,) = network["inputs"]
array = np.load(sys.argv[1], allow_pickle=False)
names = range(1, len(array) + 1)
inputs = {about_input["name"]: array.astype(about_input["dtype"])}
"""

NOISE = """\
count, seed = [*map(int, sys.argv[1:]), *(8, 0)[len(sys.argv) - 1 :]]
size = network["inputs"][0]["shape"][1]
noise = np.random.default_rng(seed).standard_normal((count, size), np.float32)
inputs = {network["inputs"][0]["name"]: noise}
"""
LABELS = """\
inputs["label"] = np.arange(count) % network["inputs"][1]["size"]
"""

RUN = {
    "onnx": """\
session = onnxruntime.InferenceSession(str(here / network["file"]))
columns = session.run(None, inputs)
""",
    "torch": """\
# Load no .pt2 file of a stranger: torch may run what is in it.
program = torch.export.load(here / network["file"]).module()
with torch.no_grad():
    columns = [column.numpy() for column in program(*map(torch.from_numpy, inputs.values()))]
""",
}
ROWS = """\
for place, example in enumerate(names):
    row = {{"example": example}}
    for one, column in zip(network["outputs"], columns):
        row[one["name"]] = column[place].tolist()
{named}    print(json.dumps(row, ensure_ascii=False))
"""
NAMED = """\
    row[{name}] = network["outputs"][{place}]["names"][row[{name}]]
"""
WRITTEN = """\
for number, image in enumerate(columns[0], 1):
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(f"{number}.png")
    print(f"{number}.png")
"""


def script(about: Mapping[str, Any], format: str) -> str:
    """The script's text for the chief network of ``export.json``."""
    name, network = next(iter(about["networks"].items()))
    imports = ["json", "sys", {"onnx": "onnxruntime", "torch": "torch"}[format]]
    arguments, read, needed = _reading(network, about["preprocessing"])
    end = ROWS.format(named=_named(network["outputs"]))
    if [one["kind"] for one in network["outputs"]] == ["image"]:
        end, needed = WRITTEN, {"PIL": ("Image",), **needed}
    optional = arguments.startswith("[")
    head = HEAD.format(
        summary="New images" if optional else "Answers to new examples",
        arguments=arguments,
        imports=_imports(imports, needed),
        asked="" if optional else ASKED,
        network=json.dumps(name),
    )
    return f"{head}\n{read}\n{RUN[format]}{end}"


def _reading(
    network: Mapping[str, Any], steps: Mapping[str, Any] | None
) -> tuple[str, str, dict[str, tuple[str, ...]]]:
    """The script's arguments, the lines that read them, and what these import."""
    if network["inputs"][0].get("drawn"):
        return "[COUNT [SEED]]", NOISE + LABELS * (len(network["inputs"]) > 1), {}
    kind = steps["kind"] if steps is not None else "array"
    if steps is not None and kind == "image":
        read = IMAGES.format(fit=FITS[steps["fit"]])
        return "IMAGE …", read, {"PIL": ("Image", "ImageOps")}
    if kind == "text":
        return "TEXT …", TEXTS, {"tokenizers": ("Tokenizer",)}
    if steps is not None and kind == "table":
        read, needed = table(steps)
        return "ROWS.csv", read, needed
    return "ARRAY.npy", ARRAYS, {}


def _named(outputs: Sequence[Mapping[str, Any]]) -> str:
    """Lines that put a class's name in the place of its number."""
    return "".join(
        NAMED.format(name=json.dumps(one["name"]), place=place)
        for place, one in enumerate(outputs)
        if one["kind"] == "class" and one["names"]
    )


STANDARD = ("csv", "datetime", "json", "pathlib", "sys")


def _imports(modules: Sequence[str], parts: Mapping[str, Sequence[str]]) -> str:
    """Import statements: the standard library's, a blank line, others."""
    parts = {"pathlib": ("Path",), **parts}
    whole = [*modules, *(name for name, taken in parts.items() if not taken)]
    blocks = []
    for standard in (True, False):
        plain = [f"import {n}" for n in sorted(whole) if (n in STANDARD) == standard]
        plain += [] if standard else ["import numpy as np"]
        some = [
            f"from {name} import {', '.join(taken)}"
            for name, taken in sorted(parts.items())
            if taken and (name in STANDARD) == standard
        ]
        blocks.append("\n".join([*sorted(plain), *some]))
    return "\n\n".join(blocks) + "\n"
