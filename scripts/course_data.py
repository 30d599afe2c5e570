"""Make the small data sets that pages of the course train on: python scripts/course_data.py KIND.

Each is drawn from a fixed seed into a folder, or file, of the working folder that has its name:

    shapes    600 images of 32x32: a circle, a square or a triangle in noise, a folder each
    printed   600 digits of 8x8 pixels as a computer prints them, turned and noisy, a folder each
    scenes    200 images of 64x64 with one to three of them, their masks and boxes (VOC's XML)
    numbers   English number words and Chinese numerals: train, val and test files
    ratings   5,000 ratings of 60 films by 200 people, of a taste of three dimensions and noise
    tones     a second each of rising, falling and steady tones in noise, .wav
    textures  300 images of 64x64 of stripes, waves, dots, checks or bricks, a folder each
    paintings a house, 120 others, and waves and dots, whose style it is to have, .png
    reviews   texts of the grammar of data=toy_reviews without their classes, a line each
"""

from __future__ import annotations

import argparse
import csv
import math
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = ("circle", "square", "triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    makers = {
        "printed": printed,
        "shapes": shapes,
        "scenes": scenes,
        "numbers": numbers,
        "ratings": ratings,
        "tones": tones,
        "textures": textures,
        "paintings": paintings,
        "reviews": reviews,
    }
    parser.add_argument("kind", choices=makers)
    kind = parser.parse_args().kind
    makers[kind](np.random.default_rng(0), Path(kind))
    print(f"wrote {kind}")


def drawn(
    draw: ImageDraw.ImageDraw, kind: str, box: tuple[float, float, float, float], fill: object
) -> None:
    """One of the shapes within its box."""
    left, top, right, bottom = box
    if kind == "circle":
        draw.ellipse(box, fill=fill)
    elif kind == "square":
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([((left + right) / 2, top), (left, bottom), (right, bottom)], fill=fill)


def noisy(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The image with noise of a standard deviation of 30 levels."""
    pixels = np.asarray(image, np.float32) + random.normal(0, 30, (*image.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def color(random: np.random.Generator, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(level) for level in random.integers(low, high, 3))


def printed(random: np.random.Generator, folder: Path) -> None:
    font = ImageFont.load_default(size=50)
    for digit in "0123456789":
        (folder / digit).mkdir(parents=True)
        for number in range(60):
            image = Image.new("L", (40, 40))
            place = tuple(random.uniform(18, 22, 2))
            ImageDraw.Draw(image).text(place, digit, 255, font, anchor="mm")
            image = image.rotate(random.uniform(-15, 15)).resize((8, 8), Image.Resampling.BOX)
            pixels = np.asarray(image, np.float32) + random.normal(0, 40, (8, 8))
            pixels = pixels.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / digit / f"{number:02}.png")


def shapes(random: np.random.Generator, folder: Path) -> None:
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for number in range(200):
            image = Image.new("RGB", (32, 32), color(random, 40, 110))
            side, x, y = random.uniform(12, 20), *random.uniform(2, 11, 2)
            drawn(ImageDraw.Draw(image), kind, (x, y, x + side, y + side), color(random, 120, 240))
            noisy(image, random).save(folder / kind / f"{number:03}.png")


def scenes(random: np.random.Generator, folder: Path) -> None:
    for name in ("images", "masks", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "JPEGImages").symlink_to("images")
    for number in range(200):
        image = Image.new("RGB", (64, 64), color(random, 40, 110))
        mask, objects = Image.new("L", (64, 64)), []
        for left in random.permutation([0, 32])[: random.integers(1, 3)]:
            kind = int(random.integers(3))
            side, x, y = random.uniform(14, 26), left + random.uniform(0, 6), random.uniform(0, 36)
            box = (x, y, x + side, y + side)
            drawn(ImageDraw.Draw(image), KINDS[kind], box, color(random, 120, 240))
            drawn(ImageDraw.Draw(mask), KINDS[kind], box, kind + 1)
            corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            inside = "".join(f"<{name}>{round(value)}</{name}>" for name, value in corners)
            objects.append(f"<object><name>{KINDS[kind]}</name><bndbox>{inside}</bndbox></object>")
        noisy(image, random).save(folder / "images" / f"{number:03}.png")
        mask.save(folder / "masks" / f"{number:03}.png")
        (folder / "Annotations" / f"{number:03}.xml").write_text(
            f"<annotation><filename>{number:03}.png</filename><size><width>64</width>"
            f"<height>64</height><depth>3</depth></size>{''.join(objects)}</annotation>"
        )


ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def english(number: int) -> str:
    """Of 0 to 9,999."""
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{english(number // size)} {name}{f' {english(rest)}' if rest else ''}"
    if number < 20:
        return ONES[number]
    rest = number % 10
    return f"{TENS[number // 10 - 2]}{f' {ONES[rest]}' if rest else ''}"


def chinese(number: int) -> str:
    """The same number: a zero is said where places are skipped, and 10 to 19 begin with ten."""
    said, skipped = "", False
    for place, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // place % 10
        if digit:
            said += f"{'零' if skipped else ''}{'零一二三四五六七八九'[digit]}{name}"
            skipped = False
        else:
            skipped = bool(said)
    return said.removeprefix("一") if 10 <= number < 20 else said or "零"


def numbers(random: np.random.Generator, folder: Path) -> None:
    folder.mkdir()
    order = random.permutation(10_000)
    for name, some in (
        ("train", order[:4000]),
        ("val", order[4000:4300]),
        ("test", order[4300:4800]),
    ):
        for language, say in (("en", english), ("zh", chinese)):
            lines = [say(int(number)) for number in some]
            (folder / f"{name}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def ratings(random: np.random.Generator, folder: Path) -> None:
    folder.mkdir()
    people, films = random.normal(0, 1, (200, 3)), random.normal(0, 1, (60, 3))
    kindness, quality = random.normal(0, 0.4, 200), random.normal(0, 0.5, 60)
    pairs = random.permutation(200 * 60)[:5000]
    with (folder / "ratings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("user", "item", "rating"))
        for who, what in (divmod(int(pair), 60) for pair in pairs):
            liking = 3.2 + kindness[who] + quality[what] + 0.5 * people[who] @ films[what]
            stars = int(np.clip(round(liking + random.normal(0, 0.5)), 1, 5))
            rows.writerow((f"user {who}", f"film {what}", stars))


def tones(random: np.random.Generator, folder: Path) -> None:
    time = np.arange(8000) / 8000
    for name, slope in (("rising", 400), ("falling", -400), ("steady", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            begin = random.uniform(500, 1200) - min(slope, 0)
            tone = np.sin(2 * math.pi * (begin * time + slope / 2 * time**2))
            sound = 0.15 * tone + random.normal(0, 0.15, len(time))
            with wave.open(str(folder / name / f"{number:02}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())


def textures(random: np.random.Generator, folder: Path) -> None:
    for kind in PATTERNS:
        (folder / kind).mkdir(parents=True)
        for number in range(60):
            drawn_from = PATTERNS[kind](*turned(random, 64, random.uniform(0, math.pi)))
            pixels = painted(drawn_from, color(random, 0, 120), color(random, 136, 256))
            noisy(Image.fromarray(pixels), random).save(folder / kind / f"{number:02}.png")


def turned(random: np.random.Generator, side: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of a square's pixels, in periods of a pattern, turned and moved."""
    row, column = np.mgrid[:side, :side] / random.uniform(6, 14)
    x, y = random.uniform(0, 1, 2)
    return (
        math.cos(angle) * column - math.sin(angle) * row + x,
        math.sin(angle) * column + math.cos(angle) * row + y,
    )


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "stripes": lambda x, y: x % 1 < 0.5,
    "waves": lambda x, y: (x + 0.25 * np.sin(2 * math.pi * y / 1.5)) % 1 < 0.5,
    "dots": lambda x, y: (x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.1,
    "checks": lambda x, y: (x % 1 < 0.5) ^ (y % 1 < 0.5),
    "bricks": lambda x, y: (y % 1 < 0.2) | ((x + np.floor(y) % 2 / 2) % 1 < 0.1),
}
"""Where a pattern has its second color, by coordinates in periods."""


def painted(second: np.ndarray, one: Sequence[float], other: Sequence[float]) -> np.ndarray:
    """Pixels (h, w, 3) of two colors."""
    return np.where(second[:, :, None], np.array(other), np.array(one)).astype(np.uint8)


def paintings(random: np.random.Generator, folder: Path) -> None:
    (folder / "houses").mkdir(parents=True)
    for kind, colors in (
        ("waves", ((16, 42, 110), (240, 196, 60))),
        ("dots", ((250, 240, 220), (190, 40, 30))),
    ):
        pixels = painted(PATTERNS[kind](*turned(random, 128, math.pi / 3)), *colors)
        Image.fromarray(pixels).save(folder / f"{kind}.png")
    house(random, 128, 0).save(folder / "house.png")
    for number in range(120):
        house(random, 64, 1).save(folder / "houses" / f"{number:03}.png")


def house(random: np.random.Generator, side: int, other: float) -> Image.Image:
    """A house, a tree and the sun on hills; ``other``: how far colors and places are drawn."""
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)

    def tinted(*levels: int) -> tuple[int, ...]:
        return tuple(int(level) for level in levels + other * random.uniform(-60, 60, 3))

    def placed(*corners: float) -> list[float]:
        return [side * corner / 128 for corner in corners]

    draw.rectangle((0, 0, side, side), tinted(135, 190, 235))
    x, y = other * random.uniform(-25, 25, 2)
    draw.ellipse(placed(92 + x, 10, 116 + x, 34), tinted(250, 220, 90))
    draw.ellipse(placed(-50, 78 + y, 110, 190), tinted(95, 160, 80))
    draw.ellipse(placed(50, 86 + y, 190, 190), tinted(70, 130, 65))
    draw.rectangle(placed(34 + x, 58 + y, 80 + x, 100 + y), tinted(225, 205, 175))
    roof = placed(28 + x, 60 + y, 57 + x, 30 + y, 86 + x, 60 + y)
    draw.polygon(roof, tinted(165, 70, 55))
    draw.rectangle(placed(50 + x, 76 + y, 62 + x, 100 + y), tinted(100, 65, 45))
    draw.rectangle(placed(66 + x, 68 + y, 75 + x, 78 + y), tinted(90, 120, 150))
    draw.rectangle(placed(103 - x, 66 + y, 109 - x, 100 + y), tinted(95, 70, 50))
    draw.ellipse(placed(92 - x, 42 + y, 120 - x, 74 + y), tinted(40, 100, 55))
    return image


def reviews(random: np.random.Generator, folder: Path) -> None:
    from dltrain.data.text.toy_reviews import ToyReviews

    folder.mkdir()
    tested = set(ToyReviews().corpus().splits["test"].texts)  # what page 31 is tested with
    texts = ToyReviews(20_000, data_seed=1).corpus().splits["train"].texts
    lines = [text for text in texts if text not in tested]
    (folder / "reviews.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
