"""Style transfer: losses by hand, an image that takes on a style, and images that do not do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dltrain.cli import dispatch
from dltrain.contracts.data import Placement
from dltrain.contracts.task import Phase
from dltrain.data.images.style import StyleImages
from dltrain.errors import UserError
from dltrain.models.generative.style_image import StyleImage
from dltrain.models.vision.vgg_features import vgg19
from dltrain.runs.load import load
from dltrain.tasks.losses.style import gram, total_variation, with_colors_of
from dltrain.tasks.style_transfer import StyleTransfer
from tests.conftest import Train
from tests.making import write_style


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gradient to keep, stripes to take the style of, and a tiny VGG-19's first layers."""
    return write_style(tmp_path_factory.mktemp("style"))


def source_of(folder: Path, **settings: Any) -> StyleImages:
    return StyleImages(str(folder / "content.png"), str(folder / "style.png"), **settings)


def task_of(folder: Path, scales: tuple[float, ...] = (1.0,), **settings: Any) -> Any:
    source = source_of(folder, size=24)
    spec = source.read(0)
    layers = {"content_layers": ["relu2_1"], "style_layers": ["relu1_1", "relu2_1"]}
    network = {"features": str(folder / "vgg.pth")}
    task = StyleTransfer(StyleImage(spec, scales), spec, **{**layers, **network, **settings})
    (batch,) = source.open(Placement(torch.device("cpu"), 0))["train"].plain()
    return task, batch


def test_a_gram_matrix_is_a_mean_over_places() -> None:
    torch.manual_seed(0)
    features = torch.rand(1, 3, 4, 5)
    by_hand = torch.einsum("nchw,ndhw->ncd", features, features) / 20

    torch.testing.assert_close(gram(features), by_hand)
    assert total_variation(torch.ones(1, 3, 4, 4)) == 0


def test_colors_are_those_of_the_content() -> None:
    torch.manual_seed(0)
    style = 0.3 + 0.2 * torch.rand(1, 3, 16, 16)
    content = torch.rand(1, 3, 12, 8) * torch.tensor([0.1, 0.4, 0.2])[:, None, None] + 0.3

    moved = with_colors_of(style, content)[0].flatten(1)

    torch.testing.assert_close(moved.mean(1), content[0].flatten(1).mean(1), atol=0.01, rtol=0)
    torch.testing.assert_close(moved.cov(), content[0].flatten(1).cov(), atol=2e-3, rtol=0)


def test_a_file_of_vgg_gives_its_layers_by_name(images: Path, tmp_path: Path) -> None:
    network = vgg19(str(images / "vgg.pth"))
    seen = network(torch.rand(1, 3, 24, 20), ["relu1_2", "relu2_1"])

    assert [name for name in network.names if name] == ["relu1_1", "relu1_2", "relu2_1"]
    assert {name: tuple(found.shape) for name, found in seen.items()} == {
        "relu1_2": (1, 64, 24, 20),
        "relu2_1": (1, 128, 12, 10),
    }
    torch.save({"0.weight": torch.zeros(3, 3, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="is not of VGG-19"):
        vgg19(str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="does not exist"):
        vgg19(str(tmp_path / "none.pth"))


def test_the_real_vgg_is_read(mnist_root: str) -> None:
    path = Path(mnist_root) / "vgg19-normalised" / "vgg_normalised_conv3_1.pth"
    if not path.is_file():
        pytest.skip(f"there is no {path}")

    seen = vgg19(str(path))(torch.rand(1, 3, 32, 32), ["relu3_1"])

    assert seen["relu3_1"].shape == (1, 256, 8, 8)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_an_image_takes_on_a_style(images: Path, scales: tuple[float, ...]) -> None:
    task, batch = task_of(images, scales)
    task.enter(Phase("train", 24))
    optimizers = {
        name: torch.optim.Adam(parameters, 0.05)
        for name, parameters in task.parameter_groups().items()
    }

    def optimize(loss: Any, name: str = "model", weight: Any = None) -> None:
        optimizers[name].zero_grad()
        loss().backward()
        optimizers[name].step()

    parts = [task.train_step(batch, optimize) for _ in range(24)]

    assert list(optimizers) == [f"image_{round(24 * s)}x{round(20 * s)}" for s in scales]
    assert float(parts[0]["style_fraction"]) == pytest.approx(1.0, abs=1e-3)
    assert float(parts[-1]["style_fraction"]) < 0.4
    image = task.sample(2, 0).columns["image"]
    assert image.shape == (2, 3, 20, 24)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert not torch.allclose(image[:1], batch["content"], atol=0.05)
    assert all(name.startswith("model.") for name in task.state_dict()), "and no features"


def test_impossible_settings_are_refused(images: Path) -> None:
    spec = source_of(images, size=24).read(0)
    for scales in ((), (0.5,), (1.0, 0.5), (0.0, 1.0)):
        with pytest.raises(ValueError, match="scales rise to 1"):
            StyleImage(spec, scales)
    with pytest.raises(ValueError, match="style_weight must be >= 0, got -1"):
        task_of(images, style_weight=-1.0)
    with pytest.raises(ValueError, match="style_layers are one or more"):
        task_of(images, style_layers=[])
    task, batch = task_of(images, style_layers=["relu9_1"])
    task.enter(Phase("train", 1))
    with pytest.raises(UserError, match="has no layer 'relu9_1'; it has relu1_1, relu1_2, relu2_1"):
        task.train_step(batch, lambda *_: None)
    task, batch = task_of(images, (0.1, 1.0))
    task.enter(Phase("train", 2))
    with pytest.raises(UserError, match=r"an image of 2x2 pixels is too small: of these, 1x1"):
        task.train_step(batch, lambda *_: None)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((1, 1), "is of 1x1 pixels, which become 24x24: a side needs 16 at least"),
        ((400, 20), "is of 400x20 pixels, which become 24x1: a side needs 16 at least"),
        ((10_000, 9_000), "has 90,000,000 pixels"),
    ],
)
def test_images_that_do_not_do_are_refused(
    images: Path, tmp_path: Path, size: tuple[int, int], says: str
) -> None:
    path = tmp_path / "content.png"
    Image.new("1", size).save(path)
    with pytest.raises(UserError, match=r"data\.content: .*content\.png") as error:
        StyleImages(str(path), str(images / "style.png"), size=24).read(0)

    assert says in str(error.value)


def test_a_large_image_is_scaled_down(images: Path, tmp_path: Path) -> None:
    Image.new("1", (10_000, 500)).save(tmp_path / "large.png")
    source = StyleImages(str(tmp_path / "large.png"), str(images / "style.png"), size=320)

    assert source.read(0).fields["content"].shape == (3, 16, 320)
    larger = StyleImages(str(tmp_path / "large.png"), str(images / "style.png"), size=100_000)
    with pytest.raises(UserError, match=r"would become 100,000x5,000: that is more than 89,478"):
        larger.read(0)


def test_the_first_of_several_frames_is_told(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    StyleImages(str(tmp_path / "moving.gif"), str(images / "style.png"), size=32).read(0)
    assert "moving.gif has several pages or frames (GIF): only the first is read" in caplog.text


def test_a_run_makes_an_image_and_is_used_without_what_made_it(train: Train, images: Path) -> None:
    small = ("data.limit=40", "model.channels=[4]", "trainer.epochs=1")
    seer = train("data=digits", "model=cnn", *small)
    run = train(
        *("model=style", "data=style", f"data.content={images / 'content.png'}"),
        *(f"data.style={images / 'style.png'}", "data.size=24", f"task.features={seer.folder}"),
        *("task.content_layers=[features.1]", "task.style_layers=[features.0]"),
        *("trainer.steps=3", "optimizer.max_iter=4"),
    )

    assert run.summary["status"] == "finished"
    assert (run.folder / "figures" / "samples.gif").is_file()
    with pytest.raises(UserError, match=r"has no layer 'relu3_1'; it has features, .*task.content"):
        train(
            *("model=style", "data=style", f"data.content={images / 'content.png'}"),
            *(f"data.style={images / 'style.png'}", "data.size=24", "trainer.steps=1"),
            f"task.features={seer.folder}",
        )
    seer.folder.rename(seer.folder.with_name("gone"))
    image = load(run.folder).sample(1, 0).columns["image"]
    assert dispatch(["sample", str(run.folder)]) == 0
    assert image.shape == (1, 3, 20, 24)
    assert float(image.std()) > 0.01
