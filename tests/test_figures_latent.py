"""Sheets of images and the space of codes: every pixel at its place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dltrain.reports.canvas import png
from dltrain.reports.latent import draw_latent_plane, draw_latent_use
from dltrain.reports.plane import Plane
from dltrain.reports.sheets import GAP, draw_rows, draw_ways, mosaic

PNG = b"\x89PNG\r\n\x1a\n"


def grays(*values: float, side: int = 28) -> np.ndarray:
    """Images of one gray each."""
    return np.stack([np.full((side, side, 1), value) for value in values])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_sheet_has_every_image_at_its_place() -> None:
    sheet = mosaic(grays(0.0, 0.2, 0.4, 0.6, 0.8), columns=2)

    step = 56 + GAP
    assert sheet.shape == (3 * step - GAP, 2 * step - GAP, 3)
    assert sheet.dtype == np.uint8
    for number, value in enumerate((0, 51, 102, 153, 204)):
        row, column = divmod(number, 2)
        tile = sheet[row * step : row * step + 56, column * step : column * step + 56]
        assert bool((tile == value).all()), number
    assert bool((sheet[56:step] == 255).all()), "the gap between rows"
    assert bool((sheet[-56:, -56:] == 255).all()), "the place of a sixth"


@pytest.mark.parametrize(("side", "pixels"), [(8, 56), (28, 56), (32, 64), (64, 64), (224, 112)])
def test_a_pixel_becomes_a_square_and_large_images_are_shrunk(side: int, pixels: int) -> None:
    image = np.random.default_rng(0).random((1, side, side, 3))

    sheet = mosaic(image, columns=1)

    assert sheet.shape == (pixels, pixels, 3)
    if side <= pixels:
        factor = pixels // side
        for shift in range(factor):
            own = sheet[shift::factor, shift::factor] / 255
            np.testing.assert_allclose(own, image[0], atol=0.5 / 255 + 1e-9)
    else:
        assert sheet.mean() == pytest.approx(255 * image.mean(), rel=0.01)


def test_colors_stay_and_other_channels_become_gray() -> None:
    colors = np.zeros((1, 56, 56, 3))
    colors[..., 0] = 1.0
    two = np.concatenate([np.zeros((1, 56, 56, 1)), np.ones((1, 56, 56, 1))], axis=3)

    assert mosaic(colors, 1)[0, 0].tolist() == [255, 0, 0]
    assert mosaic(two, 1)[0, 0].tolist() == [128, 128, 128]
    assert mosaic(np.full((1, 4, 4, 1), 1.7), 1).max() == 255


def test_versions_of_the_same_images_stand_below_each_other() -> None:
    figure = draw_rows({"original": grays(*[0.0] * 20), "restored": grays(*[0.4] * 20)})

    assert texts(figure) == ["original", "restored"] * 2
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    for block in (sheet[:116], sheet[-116:]):
        assert bool((block[:56, :56] == 0).all())
        assert bool((block[60:, :56] == 102).all())
    for text in figure.axes[0].texts:
        assert sheet[round(text.get_position()[1]), 0, 0] == (102, 0)[text.get_text() == "original"]
    assert png(figure).startswith(PNG)


def test_a_sheet_is_drawn_pixel_by_pixel() -> None:
    checks = (np.indices((28, 28)).sum(0) % 2).astype(float)[None, :, :, None]

    figure = draw_rows({"": checks})

    shown = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))

    # Nothing in between: no pixel is smeared over two.
    assert set(np.unique(shown).tolist()) == {0, 255}


def test_ways_lead_from_image_to_image() -> None:
    starts, ends = grays(0.0, 0.2), grays(0.8, 1.0)
    between = np.stack([grays(0.1, 0.4, 0.7), grays(0.3, 0.6, 0.9)])

    figure = draw_ways(starts, between, ends, title="Between images")

    sheet = np.asarray(figure.axes[0].images[0].get_array())
    values = [[0, 26, 102, 178, 204], [51, 76, 153, 230, 255]]
    for row, expected in enumerate(values):
        line = sheet[row * 60 + 10, :, 0]
        assert [v for v in dict.fromkeys(line.tolist()) if v != 255] == [
            v for v in expected if v != 255
        ]
    assert [text.get_text() for text in figure.texts] == ["Between images"]
    assert png(figure).startswith(PNG)


def test_the_latent_plane_has_its_top_at_the_top() -> None:
    plane = Plane(-1.0, 1.0, -2.0, 2.0, side=3)
    x, y = plane.grid().T.numpy()
    decoded = ((y + 2) / 8 + (x + 1) / 4)[:, None, None, None] * np.ones((1, 28, 28, 1))
    codes = np.array([[0.0, 0.0], [0.5, 1.0], [0.6, 1.1]])

    figure = draw_latent_plane(
        plane, decoded, codes, np.array([0, 1, 1]), ["zero", "one", "two"], (1.0, 2.0)
    )

    left, right = figure.axes
    sheet = np.asarray(right.images[0].get_array())
    assert sheet.shape == (168, 168, 3)
    corners = [sheet[0, 0, 0], sheet[0, -1, 0], sheet[-1, 0, 0], sheet[-1, -1, 0]]
    assert corners == [128, 255, 0, 128]
    assert texts(figure) == ["zero", "one"]
    assert tuple(left.texts[1].get_position()) == (0.55, 1.05)
    assert len(left.patches) == 2
    assert png(figure).startswith(PNG)


def test_the_latent_plane_needs_no_classes() -> None:
    plane = Plane(-1.0, 1.0, -1.0, 1.0, side=2)

    figure = draw_latent_plane(plane, grays(0, 0, 0, 0), np.zeros((5, 2)), None, [])

    assert texts(figure) == []
    assert png(figure).startswith(PNG)


def test_a_plane_of_many_classes_names_none_and_colors_all() -> None:
    plane = Plane(-1.0, 1.0, -1.0, 1.0, side=2)
    names = [str(number) for number in range(30)]

    figure = draw_latent_plane(plane, grays(0, 0, 0, 0), np.zeros((30, 2)), np.arange(30), names)

    assert texts(figure) == []
    colors = figure.axes[0].collections[0].get_facecolor()
    assert len({tuple(color) for color in colors}) == 30


def test_the_use_of_dimensions_is_sorted_and_those_unused_are_pale() -> None:
    figure = draw_latent_use(np.array([0.01, 2.0, 0.5]), active=2)

    bars = figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == [2.0, 0.5, 0.01]
    assert bars[0].get_facecolor() == bars[1].get_facecolor() != bars[2].get_facecolor()
    assert figure.axes[0].get_title() == ("2 of 3 dimensions in use, 2.5 nats (3.6 bits) an image")


def test_codes_of_less_than_a_bit_are_a_collapse() -> None:
    (axes,) = draw_latent_use(np.full(40, 0.01), active=39).axes

    assert axes.get_title() == (
        "The posterior has collapsed: the codes carry 0.4 nats (0.58 bits) an image"
    )
    assert len({bar.get_facecolor() for bar in axes.patches}) == 1
