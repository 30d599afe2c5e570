"""A network that gives any image any style: what it learns, and which it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain.cli import dispatch
from dltrain.contracts.data import DataSpec, Field
from dltrain.contracts.task import Phase
from dltrain.data.images.others import open_images
from dltrain.errors import ConfigError, UserError
from dltrain.inference.predictor import load
from dltrain.models.generative.adain import AdaptiveStyle, moments, with_moments
from dltrain.models.vision.vgg_features import vgg19
from dltrain.runs.folder import shortest
from dltrain.tasks.adaptive_style import AdaptiveStyleTransfer
from tests.asking import evaluated
from tests.conftest import Train
from tests.making import write_style

SPEC = DataSpec({"input": Field((3, 24, 24), "image", "input", mean=(0.5,), std=(0.25,))})
LAYERS = {"style_layers": ["relu1_1", "relu2_1"]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two styles, and what sees them."""
    folder = write_style(tmp_path_factory.mktemp("style"))
    (folder / "styles").mkdir()
    for name in ("content", "style"):
        (folder / f"{name}.png").rename(folder / "styles" / f"{name}.png")
    return folder


def task_of(folder: Path, opened: bool = True, **settings: Any) -> AdaptiveStyleTransfer:
    torch.manual_seed(0)
    network = AdaptiveStyle((3, 24, 24), "relu2_1", str(folder / "vgg.pth"))
    given = {"styles": str(folder / "styles"), "style_size": 32}
    task = AdaptiveStyleTransfer(network, SPEC, **{**LAYERS, **given, **settings})
    if opened:
        open_images(task, torch.device("cpu"))
        task.enter(Phase("train", 1))
    return task


def batch_of(count: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"input": torch.randn(count, 3, 24, 24, generator=generator)}


def test_features_take_on_the_moments_of_a_style() -> None:
    content, style = torch.randn(2, 5, 7, 9), 3 * torch.randn(1, 5, 4, 4) + 1
    made = with_moments(content, *moments(style))

    for own, other in zip(moments(made), moments(style), strict=True):
        torch.testing.assert_close(own, other.expand(2, 5), rtol=1e-4, atol=1e-4)
    mean, std = moments(content)
    torch.testing.assert_close(mean, content.mean((2, 3)))
    torch.testing.assert_close(std.square(), content.var((2, 3), correction=0) + 1e-5)


def test_the_encoder_sees_what_the_features_see(images: Path) -> None:
    network, seen = task_of(images).model, vgg19(str(images / "vgg.pth"))
    pixels = torch.rand(1, 3, 24, 20)

    found = network.encode(pixels, ["relu1_1"])

    for name, features in seen(pixels, ["relu1_1", "relu2_1"]).items():
        torch.testing.assert_close(found[name], features)
    assert not any(p.requires_grad for p in network.encoder.parameters())


def test_an_image_keeps_its_size(images: Path) -> None:
    task = task_of(images, opened=False)
    task.paint_as(torch.rand(3, 20, 30))
    for height, width in ((16, 16), (17, 30), (35, 22)):
        made = task.predict({"input": torch.randn(2, 3, height, width)}).columns["image"]
        assert made.shape == (2, 3, height, width)
        assert 0 <= float(made.min()) <= float(made.max()) <= 1
    with pytest.raises(ValueError, match="is of 40x15 pixels: a side needs 16 at least"):
        task.predict({"input": torch.randn(1, 3, 15, 40)})


def test_a_decoder_learns_to_paint(images: Path) -> None:
    task, batch = task_of(images), batch_of(2)
    optimizer = torch.optim.Adam(task.parameter_groups()["model"], 0.003)

    def optimize(loss: Any, name: str = "model", weight: Any = None) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    encoder = [p.clone() for p in task.model.encoder.parameters()]
    losses = [float(dict(task.train_step(batch, optimize))["loss"]) for _ in range(20)]  # type: ignore[arg-type]

    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), losses
    for before, after in zip(encoder, task.model.encoder.parameters(), strict=True):
        assert torch.equal(before, after)


def test_styles_are_dealt_to_the_images_of_an_evaluation(images: Path) -> None:
    task, batch = task_of(images).eval(), batch_of(4)
    whole = evaluated(task, [batch]).scalars
    parts = evaluated(task, [{"input": batch["input"][:1]}, {"input": batch["input"][1:]}]).scalars

    assert whole.keys() == {"loss", "content_loss", "style_loss", "style_fraction"}
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-4)


def test_impossible_settings_are_refused(images: Path) -> None:
    with pytest.raises(ValueError, match=r"layer: there is no layer 'relu9_1'; VGG-19 has relu1_1"):
        AdaptiveStyle((3, 24, 24), "relu9_1")
    with pytest.raises(ValueError, match=r"pretrained: .* of VGG-19 that reach layer=relu3_1"):
        AdaptiveStyle((3, 24, 24), "relu3_1", str(images / "vgg.pth"))
    task = task_of(images, opened=False)
    task.model.learned.fill_(False)
    with pytest.raises(UserError, match=r"model\.pretrained: an encoder that has learned nothing"):
        task.enter(Phase("train", 1))
    with pytest.raises(ValueError, match="style_layers: the encoder has no layer 'relu3_1'"):
        task_of(images, style_layers=["relu3_1"])
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        task_of(images, strength=2.0)
    empty = images / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"task\.styles: .*empty has no image"):
        open_images(task_of(images, opened=False, styles=str(empty)), torch.device("cpu"))
    with pytest.raises(UserError, match=r"task\.styles: .* has other images than when"):
        task_of(images).load_training_state({"styles": "0123"})


def test_a_run_paints_in_any_style(
    train: Train, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        ramp = Image.linear_gradient("L").resize((20 + number, 18))
        ramp.convert("RGB").save(photos / f"{number}.jpg")
    run = train(
        *("model=adain", "model.layer=relu2_1", f"model.pretrained={images / 'vgg.pth'}"),
        *("data=image_folder", f"data.path={photos}", f"data.root={tmp_path}", "data.size=16"),
        *("data.test=0.4", "data.validation=0", f"task.styles={images / 'styles'}"),
        "task.style_size=32",
        *("task.style_layers=[relu1_1]", "trainer.steps=1", "callbacks=none"),
    ).folder
    style, photo = str(images / "styles" / "style.png"), str(photos / "1.jpg")

    with pytest.raises(UserError, match=r"was told none: dltrain predict RUN IMAGE --style FILE"):
        dispatch(["predict", str(run), photo])
    assert dispatch(["predict", str(run), photo, "--style", style, "--style-size", "24"]) == 0
    assert f"1 prediction in {shortest(run / 'predictions')}" in capsys.readouterr().out
    assert Image.open(run / "predictions" / "00001_1.png").size == (21, 18)
    one = load(run)
    made = []
    for name in ("style", "content"):
        one.paint_as(images / "styles" / f"{name}.png", 24)
        made.append(one.predict(photo).tensors["image"])
    assert not torch.equal(*made)
    with pytest.raises(UserError, match="--style-size is of a --style FILE"):
        dispatch(["predict", str(run), photo, "--style-size", "24"])
    with pytest.raises(UserError, match=r"--style: .*vgg\.pth is no image"):
        one.paint_as(images / "vgg.pth")
