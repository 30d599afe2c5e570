"""What people use instead of dltrain for the same work, for scripts/benchmark.py.

    pip install transformers ultralytics
    python scripts/benchmark.py --workloads transformer_language yolo

Their networks are the libraries' own, of the same kind and about the same size, on the same data
and batches; the rest is as their documentation has it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contestants import Watch


class Enough(Exception):
    """All steps that are timed have been made."""


def gpt2(batch: int, watch: Watch) -> None:
    """GPT-2 of transformers on windows of a text, by the loop that its documentation shows."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from contestants import CHARACTERS, WINDOW, letters, never

    ids = torch.tensor([ord(letter) - 48 for letter in letters()])
    nothing = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    shape = {"n_positions": WINDOW, "n_embd": 128, "n_layer": 4, "n_head": 4}
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=CHARACTERS,
            eos_token_id=None,
            bos_token_id=None,
            use_cache=False,
            **shape,
            **nothing,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    watch.begin()
    while True:
        starts = torch.randint(len(ids) - WINDOW, (batch, 1))
        windows = ids[starts + torch.arange(WINDOW)]
        loss = model(input_ids=windows, labels=windows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if watch.step(never):
            return


def ultralytics(batch: int, watch: Watch) -> None:
    """YOLOv8n from its description, without weights, on blood cells as YOLO txt."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        from ultralytics import YOLO

        from contestants import never

        data = cells_as_txt(Path(os.environ["DLTRAIN_DATA"]) / "bccd", Path(folder))
        model = YOLO("yolov8n.yaml")

        def begun(trainer: Any) -> None:
            watch.begin()

        def stepped(trainer: Any) -> None:
            if watch.step(never):
                raise Enough

        model.add_callback("on_train_epoch_start", begun)
        model.add_callback("on_train_batch_end", stepped)
        with contextlib.suppress(Enough):
            model.train(
                data=str(data), epochs=100, imgsz=320, batch=batch, workers=0, device="cpu",
                optimizer="Adam", lr0=1e-3, plots=False, val=False, project=folder,
            )  # fmt: skip


def cells_as_txt(source: Path, folder: Path) -> Path:
    """The training images of a VOC folder in the layout that ultralytics reads; its YAML file."""
    names: list[str] = []
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for stem in (source / "ImageSets" / "Main" / "trainval.txt").read_text().split():
        image = next((source / "JPEGImages").glob(f"{stem}.*"))
        (folder / "images" / image.name).symlink_to(image.resolve())
        tree = ElementTree.parse(source / "Annotations" / f"{stem}.xml").getroot()
        width, height = (float(tree.findtext(f"size/{side}", "0")) for side in ("width", "height"))
        lines = []
        for found in tree.iter("object"):
            name = found.findtext("name", "")
            if name not in names:
                names.append(name)
            left, top, right, bottom = (
                float(found.findtext(f"bndbox/{side}", "0"))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            center = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            size = ((right - left) / width, (bottom - top) / height)
            lines.append(" ".join(map(str, (names.index(name), *center, *size))))
        (folder / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    described = folder / "cells.yaml"
    described.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{listed}")
    return described
