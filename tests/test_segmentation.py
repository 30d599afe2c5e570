"""Segmentation: networks, losses and metrics against their formulas, and a run from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score
from torch import Tensor, nn
from torch.nn import functional

import dltrain
from dltrain.assemble import Assembly
from dltrain.cli import main
from dltrain.contracts.colors import colors_of
from dltrain.contracts.data import Batch, DataSpec, Field, Placement
from dltrain.core.evaluate import Position
from dltrain.errors import UserError
from dltrain.inference.evaluate import Targets
from dltrain.metrics.examples import PerExample
from dltrain.metrics.segmentation import (
    BoundaryF1,
    PixelCounts,
    SegmentedImages,
    counted,
    edges,
    image_miou,
    pixel_confusion,
)
from dltrain.models.layers.tiling import in_tiles, mirrored
from dltrain.models.vision.segnet import SegNet, unpooled
from dltrain.models.vision.torchvision_segmentation import TorchvisionSegmenter
from dltrain.models.vision.unet import UNet
from dltrain.tasks.losses.segmentation import PixelLoss
from dltrain.tasks.segmentation import Segmentation
from tests.asking import assembled, evaluated
from tests.conftest import Compose, Train

IGNORED = 255
SMALL = ("model.width=8", "model.depth=1", "model.padding=same", "model.batch_norm=true")


def spec_of(channels: int = 1, classes: int = 3, **target: Any) -> DataSpec:
    names = tuple("abcdefg"[:classes])
    mask = Field((None, None), "mask", "target", classes, names, fill=IGNORED, **target)
    image = Field((channels, None, None), "image", "input", mean=(0.5,), std=(0.25,))
    return DataSpec({"input": image, "target": mask})


def masks(*shape: int, classes: int = 3, ignored: float = 0.1) -> Tensor:
    drawn = torch.randint(classes, shape)
    return drawn.where(torch.rand(shape) > ignored, IGNORED).to(torch.uint8)


def draw_files(folder: Path, count: int = 8) -> Path:
    """Squares of two gray values on black, with masks of 0, 1 and 2."""
    generator = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((20, 24), np.uint8)
        for value in (1, 2):
            y, x = generator.integers(0, 12, 2)
            mask[y : y + 8, x : x + 8] = value
        image = np.clip(mask * 90 + generator.normal(30, 9, mask.shape), 0, 255)
        for place, pixels in (("images", image), ("masks", mask)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / place / f"s{number}.png")
    return folder


def test_u_net_as_published_has_its_parameters_and_sizes() -> None:
    with torch.device("meta"):
        network = UNet(spec_of(1, 2))
        assert sum(p.numel() for p in network.parameters()) == 31_030_658
        assert network.inside(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert network.margins(388) == (92, 92), "the border that the paper mirrors"


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (33, 64)])
def test_u_net_reads_images_of_any_size(padding: Any, size: tuple[int, int]) -> None:
    network = UNet(spec_of(), width=1, depth=2, padding=padding, batch_norm=True).eval()
    assert network(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_valid_convolutions_see_mirrored_borders() -> None:
    network = UNet(spec_of(), width=2, depth=1).eval()
    image = torch.rand(1, 1, 40, 40)
    (before, after), inside = network.margins(20), image[..., 10:30, 10:30]
    assert (before, after) == (8, 8)
    # Where the middle's surroundings are real, they are those that a mirror would show.
    whole = mirrored(inside, before, before, after, after)
    torch.testing.assert_close(network.inside(whole), network(inside))
    wide = functional.pad(inside, (8, 8, 8, 8), mode="reflect")
    assert torch.equal(whole, wide)


def test_a_mirror_beyond_the_mirror() -> None:
    line = torch.arange(3.0).view(1, 1, 1, 3)
    found = mirrored(line, 5, 0, 4, 0)[0, 0, 0].tolist()
    assert found == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]


def test_segnet_puts_values_back_where_they_were() -> None:
    images = torch.rand(2, 3, 7, 6)
    pooled, places = functional.max_pool2d(images, 2, return_indices=True)
    expected = functional.max_unpool2d(pooled, places, 2, output_size=(7, 6))
    assert torch.equal(unpooled(pooled, places, images.shape), expected)
    with torch.device("meta"):
        network = SegNet(spec_of(3, 3))
    convolutions = [layer for layer in network.down.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions][:5] == [64, 64, 128, 128, 256]
    assert len(convolutions) == 13, "as VGG-16"
    small = SegNet(spec_of(3, 3), channels=[2, 3], convolutions=[1, 2], dropout=0.5)
    assert small(torch.rand(2, 3, 13, 9)).shape == (2, 3, 13, 9)


def test_torchvisions_networks_have_an_auxiliary_output_in_training_alone() -> None:
    with torch.device("meta"):
        for name in ("fcn_resnet50", "deeplabv3_resnet50"):
            network = TorchvisionSegmenter(name, spec_of(1, 3))
            images = torch.empty(2, 1, 24, 33)
            assert [out.shape for out in network.with_auxiliary(images)] == [(2, 3, 24, 33)] * 2
            assert len(network.eval().with_auxiliary(images)) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda spec: UNet(spec),
        lambda spec: SegNet(spec),
        lambda spec: TorchvisionSegmenter("fcn_resnet50", spec),
    ],
)
def test_networks_refuse_data_without_masks(make: Any) -> None:
    image = Field((1, 8, 8), "image", "input")
    digits = DataSpec({"input": image, "target": Field((), "class", "target", size=10)})
    with pytest.raises(ValueError, match="of image and class, not of image and mask"):
        make(digits)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: UNet(spec_of(), depth=0), "at least 1"),
        (lambda: SegNet(spec_of(), channels=[4], convolutions=[1, 1]), "for each of 1 stages"),
        (lambda: TorchvisionSegmenter("fcn_resnet5", spec_of()), "Did you mean"),
        (lambda: Segmentation(nn.Identity(), spec_of(), cross_entropy=0.0), "above 0"),
        (lambda: Segmentation(nn.Identity(), spec_of(), tile=64, overlap=40), "half of tile"),
        (lambda: Segmentation(nn.Identity(), spec_of(), class_weights=[1.0]), "1 weights for 3"),
    ],
)
def test_impossible_settings_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_tiles_give_what_the_whole_image_gives() -> None:
    average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    images = torch.rand(2, 3, 37, 23)
    inside = (..., slice(1, -1), slice(1, -1))
    found = in_tiles(lambda part: part * 2 + 1, images, 16, 4)
    torch.testing.assert_close(found, images * 2 + 1)
    # With a border of 1 pixel that a tile cannot know, the overlap weighs it down.
    apart = (in_tiles(average, images, 16, 8) - average(images)).abs()[inside]
    assert float(apart.max()) < 0.1


def test_views_are_moved_back_before_their_mean() -> None:
    """A network that answers pixel by pixel says the same of every view, and of their mean."""
    torch.manual_seed(0)
    images = torch.randn(2, 1, 5, 8)
    one = Segmentation(nn.Conv2d(1, 3, 1), spec_of())
    several = Segmentation(one.model, spec_of(), mirrored=True, turned=True)
    torch.testing.assert_close(several({"input": images}), one({"input": images}))

    # One that looks to a side says of all views the same as of any one of them.
    several.model = nn.Conv2d(1, 3, 3, padding=1)
    turned = several({"input": torch.rot90(images, 1, (2, 3))})["logits"]
    torch.testing.assert_close(
        torch.rot90(turned, -1, (2, 3)), several({"input": images})["logits"]
    )


def test_the_loss_is_that_of_its_formula() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 5, 4), masks(2, 5, 4)
    known = targets != IGNORED
    logs = logits.log_softmax(1).movedim(1, -1)[known]
    own = targets[known].long()
    each = -logs.gather(1, own[:, None])[:, 0]
    plain = PixelLoss(IGNORED)(logits, targets)
    torch.testing.assert_close(plain, each.mean())
    weights = torch.tensor([1.0, 2.0, 5.0])
    weighted = PixelLoss(IGNORED, weights=weights.tolist())(logits, targets)
    torch.testing.assert_close(weighted, (each * weights[own]).mean())
    focal = PixelLoss(IGNORED, focal_gamma=2.0)(logits, targets)
    torch.testing.assert_close(focal, (each * (1 - (-each).exp()) ** 2).mean())
    extra = torch.rand(2, 5, 4)
    both = PixelLoss(IGNORED, weights=weights.tolist())(logits, targets, extra)
    torch.testing.assert_close(both, (each * (weights[own] + extra[known])).mean())
    chances, ones = logs.exp(), functional.one_hot(own, 3)
    dice = (2 * (chances * ones).sum(0) + 1) / (chances.sum(0) + ones.sum(0) + 1)
    only = PixelLoss(IGNORED, cross_entropy=0.0, dice=1.0)(logits, targets)
    torch.testing.assert_close(only, 1 - dice.mean())
    nothing = torch.full_like(targets, IGNORED)
    assert float(PixelLoss(IGNORED)(logits, nothing)) == 0


def test_counts_are_those_of_scikit_learn() -> None:
    torch.manual_seed(0)
    predicted, targets = torch.randint(3, (4, 9, 7)), masks(4, 9, 7)
    counts = pixel_confusion(predicted, targets, 3)
    known = targets != IGNORED
    true, own = targets[known].numpy(), predicted[known].numpy()
    assert np.array_equal(counts.sum(0).numpy(), confusion_matrix(true, own))
    metric = PixelCounts(["a", "b", "c"])
    halves = [PixelCounts(["a", "b", "c"]) for _ in range(2)]
    for metric_, rows in ((metric, slice(None)), (halves[0], slice(2)), (halves[1], slice(2, 4))):
        outputs = {"confusion": counts[rows], "losses": torch.ones(4)[rows]}
        metric_.update(outputs, {}, torch.arange(4)[rows])
    halves[0].merge(halves[1])
    found = metric.compute().scalars
    assert found == pytest.approx(halves[0].compute().scalars)
    assert found["miou"] == pytest.approx(jaccard_score(true, own, average="macro"))
    assert found["dice"] == pytest.approx(f1_score(true, own, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx((true == own).mean())
    assert found["loss"] == pytest.approx(4 / len(true))


def test_a_class_that_nobody_has_is_in_no_mean() -> None:
    metric = PixelCounts(["a", "b", "nobody"])
    counts = torch.tensor([[[3, 1, 0], [0, 4, 0], [0, 0, 0]]])
    metric.update({"confusion": counts, "losses": torch.ones(1)}, {}, torch.arange(1))
    assert metric.compute().scalars["miou"] == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_an_image_without_a_pixel_to_count_is_in_no_mean_and_no_mistake() -> None:
    counts = torch.tensor([[[3, 1], [0, 4]], [[0, 0], [0, 0]]])
    pixels = torch.zeros(2, 2, 4, dtype=torch.long)
    outputs = {"confusion": counts, "losses": torch.ones(2), "class": pixels}
    batch = {"input": torch.zeros(2, 1, 2, 4), "target": pixels}
    metric, images = PixelCounts(["a", "b"]), SegmentedImages(["a", "b"], [(0, 0, 0)] * 2, _same)
    examples = PerExample({"image_miou": image_miou}, counted=counted)
    for one in (metric, images, examples):
        one.update(outputs, batch, torch.arange(2))
    mean = (3 / 4 + 4 / 5) / 2
    assert metric.compute().scalars["image_miou"] == pytest.approx(mean)
    assert examples.compute().tables["examples"].rows == [[f"{mean:.6g}"]]
    assert len(images._worst.found()[0]) == 1


def _same(images: Tensor) -> Tensor:
    return images


def test_borders_within_the_tolerance_are_the_same() -> None:
    target = torch.zeros(1, 20, 20, dtype=torch.uint8)
    target[:, :, 10:] = 1

    def f1(shift: int, tolerance: float) -> float:
        predicted = target.roll(shift, 2) if shift else target
        predicted = predicted.clone()
        predicted[:, :, :5], predicted[:, :, 15:] = 0, 1
        metric = BoundaryF1(["a", "b"], IGNORED, tolerance)
        metric.update({"class": predicted.long()}, {"target": target}, torch.arange(1))
        return metric.compute().scalars["boundary_f1"]

    assert f1(0, 1) == 1
    assert f1(3, 3) == 1
    assert f1(3, 2) == 0
    ignored = target.clone().long()
    ignored[:, :, 9:11] = IGNORED
    assert not edges(ignored, IGNORED).any(), "beside what is ignored there is no border"


def test_colors_are_the_datas_own_or_all_different() -> None:
    assert len(set(colors_of(spec_of(classes=7).target))) == 7
    assert colors_of(spec_of(classes=2, colors=((1, 2, 3), (4, 5, 6))).target)[1] == (4, 5, 6)


def test_masks_of_other_data_come_in_the_runs_classes() -> None:
    there = spec_of(classes=3)
    here = DataSpec({
        "input": there.input,
        "target": Field((None, None), "mask", "target", 2, ("c", "a"), fill=IGNORED),
    })  # fmt: skip
    target = torch.tensor([[[0, 1, 2, IGNORED]]], dtype=torch.uint8)
    with pytest.raises(UserError, match="no class 'b'"):
        Targets(there, here, False)(target)
    found, kept = Targets(there, here, True)(target)
    assert found.tolist() == [[[1, IGNORED, 0, IGNORED]]]
    assert kept.tolist() == [True]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_files(tmp_path_factory.mktemp("masks") / "data")


def typed(files: Path) -> list[str]:
    return [
        *("data=image_masks", f"data.path={files}", f"data.root={files.parent}"),
        *("data.classes=[none,dark,light]", "device=cpu"),
    ]


@pytest.mark.parametrize(
    ("model", "smaller"),
    [
        ("unet", ["model.width=1"]),
        ("segnet", ["model.channels=[2,2]", "model.convolutions=[1,1]"]),
        ("fcn_resnet", ["model.name=lraspp_mobilenet_v3_large"]),
        ("deeplab", ["model.name=deeplabv3_mobilenet_v3_large"]),
    ],
)
def test_each_network_makes_a_step(
    model: str, smaller: list[str], files: Path, compose: Compose
) -> None:
    parts = assembled(compose(*typed(files), f"model={model}", *smaller, "callbacks=none"))
    taken: list[Tensor] = []
    batch: Batch = {"input": torch.rand(2, 1, 20, 24), "target": masks(2, 20, 24)}
    parts.task.train_step(batch, lambda loss, *_, **__: taken.append(loss))
    taken[0].backward()
    assert all(p.grad is not None for p in parts.task.parameters())
    assert evaluated(parts.task, [batch], final=True).scalars["pixel_accuracy"] <= 1


@pytest.mark.parametrize("name", ["unet_cells", "unet_camvid"])
def test_the_recipes_compose(name: str, files: Path, compose: Compose) -> None:
    config = compose(f"experiment={name}", f"data.path={files}", "device=cpu")
    assert config["task"]["_target_"].endswith("Segmentation")


def test_a_run_learns_is_used_and_leaves_dltrain(
    train: Train, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(
        *typed(files), "model=unet", *SMALL, "trainer.epochs=30", "optimizer.lr=0.02",
        "data.batch_size=3", "data.test=0.25", "callbacks=[figures]",
    )  # fmt: skip
    assert run.summary["test"]["miou"] > 0.6
    tables = {path.name for path in (run.folder / "tables").iterdir()}
    assert {"test_pixels.csv", "test_boundaries.csv", "test_examples.csv"} <= tables
    figures = {path.name for path in (run.folder / "figures").iterdir()}
    assert {"test_confusion.png", "test_predictions.png", "test_worst_images.png"} <= figures

    predictor = dltrain.load(run.folder)
    large = tmp_path / "large.png"
    Image.fromarray(np.full((40, 31), 30, np.uint8)).save(large)
    paths = [files / "images" / "s0.png", large]
    answers = predictor.predict(paths)
    assert [row["height"] for row in answers] == [20, 40]
    assert sum(answers[0][f"fraction[{name}]"] for name in ("none", "dark", "light")) == (
        pytest.approx(1)
    )
    assert answers.tensors["mask"].shape == (2, 40, 31)
    assert set(answers.tensors["mask"][0, 20:].unique().tolist()) == {IGNORED}

    def command(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["dltrain", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    name = str(run.folder)
    assert command("predict", name, *map(str, paths), "--out", "painted") == 0
    rows = json.loads((tmp_path / "painted" / "answers.json").read_text())
    assert [row["painted"] for row in rows] == ["s0.png", "large.png"]
    with Image.open(tmp_path / "painted" / "s0_mask.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), answers.tensors["mask"][0, :20, :24])
    with Image.open(tmp_path / "painted" / "large.png") as image:
        assert (image.size, image.mode) == ((31, 40), "RGB")
    assert command("predict", name, str(paths[0]), "--out", str(files / "images")) == 2
    assert "has the images that are read" in capsys.readouterr().err
    assert command("predict", name, *map(str, paths), "--out", "one.png") == 2
    assert command("predict", name, str(large), "--out", "one.png") == 0
    assert (tmp_path / "one.json").is_file()


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_images_of_several_sizes_are_evaluated_as_they_are_predicted(
    padding: str, compose: Compose, tmp_path: Path
) -> None:
    folder = draw_files(tmp_path / "data")
    for number, (height, width) in enumerate([(12, 24), (20, 9), (12, 24), (7, 7)]):
        for place in ("images", "masks"):
            path = folder / place / f"s{number}.png"
            Image.open(path).crop((0, 0, width, height)).save(path)
    config = compose(
        *(*typed(folder), "model=unet", "model.width=4", "model.depth=1", "callbacks=none"),
        *(f"model.padding={padding}", "data.test=0.75", "data.validation=0"),
    )
    with Assembly(config) as assembly:
        parts = assembly.read()
        torch.manual_seed(0)
        for parameter in parts.task.parameters():
            torch.nn.init.normal_(parameter, 0, 0.5)
        streams = parts.source.open(Placement(torch.device("cpu"), 0))
        batches = list(streams["test"].plain())
    task = parts.task.eval()
    with torch.inference_mode():
        found = [
            (batch, task.eval_step(batch, Position(0, 0, True, torch.arange(0), number)))
            for number, batch in enumerate(batches)
        ]
        sizes = set()
        for batch, outputs in found:
            for image, predicted, (high, wide) in zip(
                batch["input"], outputs["class"], batch["extent"].tolist(), strict=True
            ):
                alone = task.predict({"input": image[None, :, :high, :wide]})
                assert torch.equal(predicted[:high, :wide], alone.columns["mask"][0].long())
                sizes.add((high, wide))
    assert len(sizes) > 2


def test_an_exported_network_answers_as_the_run(train: Train, files: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="an extra: pip install 'dltrain[export]'")
    pytest.importorskip("onnx")
    from dltrain.inference.export import export
    from dltrain.runs.examples import examples_of_run
    from dltrain.runs.folder import RunFolder

    for model, smaller in (("unet", ["model.width=2"]), ("segnet", ["model.channels=[2,2]"])):
        extra = ["model.convolutions=[1,1]"] if model == "segnet" else ["model.depth=1"]
        run = train(
            *typed(files), f"model={model}", *smaller, *extra, "trainer.steps=1", "callbacks=none"
        )
        examples = examples_of_run(RunFolder(run.folder))
        made = export(dltrain.load(run.folder), examples, "onnx", tmp_path / model)
        (network,) = made.about["networks"].values()
        assert [one["kind"] for one in network["outputs"]] == ["mask", "number"]
        assert network["largest_difference"] < 1e-4
        compile((tmp_path / model / "use.py").read_text(), "use.py", "exec")


def test_real_cells_are_read_in_their_order(
    mnist_root: str, tmp_path: Path, compose: Compose
) -> None:
    place = Path(mnist_root) / "isbi2012-em"
    if not place.is_dir():
        pytest.skip(f"no micrographs: there is no {place}")
    config = compose(
        "experiment=unet_cells", f"data.path={place}", f"data.root={tmp_path}", "device=cpu"
    )
    parts = assembled(config)
    counts = torch.tensor(parts.spec.target.counts)
    assert counts.sum() == 24 * 512 * 512
    files = (place / "train" / "label" / f"{number}.png" for number in range(24))
    assert counts[0] == sum(int((np.asarray(Image.open(file)) == 0).sum()) for file in files)
