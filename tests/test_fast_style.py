"""A network that gives any image a style: what it learns, and what it paints at which size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain.cli import dispatch
from dltrain.contracts.data import DataSpec, Field
from dltrain.contracts.task import Phase
from dltrain.data.images.others import open_images
from dltrain.data.images.reader import ImageReader
from dltrain.errors import ConfigError, UserError
from dltrain.inference.evaluate import evaluate_run
from dltrain.inference.predictor import load
from dltrain.metrics.style import StyleLosses
from dltrain.models.generative.transform_net import TransformNet
from dltrain.runs.folder import RunFolder, shortest
from dltrain.tasks.fast_style import FastStyle
from tests.asking import evaluated
from tests.conftest import Train
from tests.making import write_style

SPEC = DataSpec({"input": Field((3, 24, 24), "image", "input", mean=(0.5,), std=(0.25,))})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A style, and what sees it."""
    return write_style(tmp_path_factory.mktemp("style"))


def task_of(folder: Path, opened: bool = True, **settings: Any) -> FastStyle:
    torch.manual_seed(0)
    layers = {"content_layers": ["relu2_1"], "style_layers": ["relu1_1", "relu2_1"]}
    files = {"features": str(folder / "vgg.pth"), "style": str(folder / "style.png")}
    network = TransformNet((3, 24, 24), width=4, blocks=1)
    task = FastStyle(network, SPEC, **{**layers, **files, **settings})
    assert not task.others()
    if opened:
        open_images(task, torch.device("cpu"))
        task.enter(Phase("train", 1))
    return task


def batch_of(count: int = 3) -> dict[str, Tensor]:
    """Ramps of several slopes, normalized."""
    ramp = torch.linspace(0, 1, 24).expand(3, 24, 24)
    slopes = torch.linspace(0.2, 1, count)[:, None, None, None]
    return {"input": (slopes * ramp - 0.5) / 0.25}


def test_an_image_keeps_its_size() -> None:
    network = TransformNet((3, 24, 24), width=2, blocks=1)
    for height, width in ((16, 16), (17, 30), (35, 22)):
        made = network(torch.randn(2, 3, height, width))
        assert made.shape == (2, 3, height, width)
        assert 0 <= float(made.detach().min()) <= float(made.detach().max()) <= 1
    with pytest.raises(ValueError, match="is of 40x15 pixels: a side needs 16 at least"):
        network(torch.randn(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r"data\.channels=3"):
        TransformNet((1, 28, 28))


def test_a_network_learns_a_style(images: Path) -> None:
    task, batch = task_of(images, content_weight=0.1), batch_of(1)
    optimizer = torch.optim.Adam(task.parameter_groups()["model"], 0.005)

    def optimize(loss: Any, name: str = "model", weight: Any = None) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    parts = [task.train_step(batch, optimize) for _ in range(20)]

    first, last = (float(one["style_fraction"]) for one in (parts[0], parts[-1]))
    assert last < 0.6 * first, (first, last)
    assert all(name.startswith("model.") for name in task.state_dict()), "and no features"


def test_a_batch_is_worth_the_mean_of_its_images(images: Path) -> None:
    task, batch = task_of(images, total_variation=0.5).eval(), batch_of()
    scalars = evaluated(
        task, [{"input": batch["input"][:2]}, {"input": batch["input"][2:]}]
    ).scalars
    told = task.train_step(batch, lambda loss, name="model", weight=None: None)

    assert set(told) == set(scalars)
    for name, value in told.items():
        assert scalars[name] == pytest.approx(float(value), rel=1e-5)


def test_images_that_have_the_style_already_are_worth_a_number() -> None:
    losses = StyleLosses()
    names = ("loss", "content_loss", "style_loss", "plain_style_loss")
    losses.update(dict.fromkeys(names, torch.zeros(2)), {}, torch.arange(2))
    assert losses.compute().scalars["style_fraction"] == 0


def test_impossible_settings_are_refused(images: Path) -> None:
    with pytest.raises(ValueError, match="style_weight must be >= 0, got -1"):
        task_of(images, style_weight=-1.0)
    with pytest.raises(ValueError, match="largest must be at least 16, got 8"):
        task_of(images, largest=8)
    with pytest.raises(UserError, match="has no layer 'relu9_1'"):
        task_of(images, style_layers=["relu9_1"])
    for path in ("nowhere.png", "vgg.pth"):
        task = task_of(images, opened=False, style=str(images / path))
        with pytest.raises(ConfigError, match=rf"task\.style: .*{path} is no image"):
            open_images(task, torch.device("cpu"))
    with pytest.raises(UserError, match=r"task\.style: .* has other pixels than when this run"):
        task_of(images).load_training_state({"style": "0123"})


def test_an_image_is_painted_at_its_own_size(
    images: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = task_of(images, opened=False, largest=48).eval()
    reader = ImageReader(3, 24, 24, [0.5], [0.25]).at_own_size()
    sizes = []
    for height, width in ((20, 40), (64, 96)):
        batch = reader.read([np.zeros((height, width, 3), np.uint8)])
        assert batch["input"].shape == (1, 3, height, width)
        sizes.append(tuple(task.predict(batch).columns["image"].shape))

    assert sizes == [(1, 3, 20, 40), (1, 3, 32, 48)]
    assert caplog.messages == [
        "an image of 96 pixels is painted with its longer side of 48 (task.largest)."
    ]


def test_a_run_paints_files_without_what_made_it(
    train: Train,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(4):
        place = tmp_path / "photos"
        place.mkdir(exist_ok=True)
        Image.linear_gradient("L").resize((20 + number, 18)).convert("RGB").save(
            place / f"{number}.jpg"
        )
    style = tmp_path / "style.png"
    style.write_bytes((images / "style.png").read_bytes())
    trained = train(
        *("model=fast_style", "model.width=2", "model.blocks=1", "data=image_folder"),
        *(f"data.path={tmp_path / 'photos'}", f"data.root={tmp_path}", "data.size=16"),
        *("data.channels=3", f"task.style={style}", f"task.features={images / 'vgg.pth'}"),
        *("task.content_layers=[relu2_1]", "task.style_layers=[relu1_1]", "trainer.steps=2"),
        *("data.test=0.5", "data.validation=0", "callbacks=none"),
    )
    evaluation = evaluate_run(RunFolder(trained.folder), "test").evaluation
    assert evaluation.scalars == pytest.approx(
        {name: trained.summary["test"][name] for name in evaluation.scalars}, rel=1e-5
    )
    run = trained.folder
    files = sorted((tmp_path / "photos").iterdir())
    one = load(run)
    several, alone = one.predict(files).images, [one.predict(file).images[0] for file in files]
    assert [tuple(image.shape) for image in several] == [(3, 18, 20 + n) for n in range(4)]
    assert all(map(torch.equal, several, alone))
    Image.new("RGB", (40, 3)).save(tmp_path / "low.png")
    with pytest.raises(ValueError, match=r"image 2, .*low\.png: an image is of 40x3 pixels"):
        one.predict([files[0], tmp_path / "low.png"])
    asked = [tmp_path / "low.png", files[0]]
    assert len(list(one.predict_in_parts(asked, skip_unreadable=True))) == 1
    Image.new("RGB", (32, 32)).save(style)
    with pytest.raises(UserError, match=r"task\.style: .* has other pixels than when this run"):
        dispatch(["evaluate", str(run)])
    style.unlink()

    assert dispatch(["predict", str(run), str(tmp_path / "photos")]) == 0

    assert f"4 predictions in {shortest(run / 'predictions')}" in capsys.readouterr().out
    sizes = {path.name: Image.open(path).size for path in (run / "predictions").iterdir()}
    assert sizes == {
        "00001_0.png": (20, 18),
        "00002_1.png": (21, 18),
        "00003_2.png": (22, 18),
        "00004_3.png": (23, 18),
    }
    assert (
        dispatch(["predict", str(run), str(files[1]), "--out", str(tmp_path / "in_oil.png")]) == 0
    )
    alike = (run / "predictions" / "00002_1.png", tmp_path / "in_oil.png")
    assert alike[0].read_bytes() == alike[1].read_bytes()
    with pytest.raises(UserError, match=r"two\.png is one image: give a folder for several"):
        dispatch(["predict", str(run), *map(str, files[:2]), "--out", str(tmp_path / "two.png")])
    with pytest.raises(UserError, match=r"task\.style: .*style\.png is no image that can be read"):
        dispatch(["evaluate", str(run)])
