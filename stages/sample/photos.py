"""Draw the sample's photos: the shape shows the category, the fill the colour, the pattern the style."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.float64]
Part = tuple[int, Floats]

SIDE = 96  # pixels of a finished photo
OVERSAMPLED = 2 * SIDE  # drawn larger and averaged down, for smooth edges
QUALITY = 80
NOTHING, BODY, TRIM, LIGHT = range(4)  # labels of parts; only the body has the pattern

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 45),
    "orange": (240, 130, 25),
    "yellow": (245, 210, 50),
    "green": (50, 145, 60),
    "teal": (25, 160, 165),
    "blue": (40, 75, 190),
    "purple": (130, 55, 160),
    "charcoal": (58, 58, 64),
}


def _poly(*points: tuple[float, float]) -> Floats:
    return np.array(points)


def _box(left: float, top: float, right: float, bottom: float) -> Floats:
    return _poly((left, top), (right, top), (right, bottom), (left, bottom))


def _oval(x: float, y: float, width: float, height: float, start: float = 0, stop: float = 360) -> Floats:
    angle = np.radians(np.linspace(start, stop, 49))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def _turned(*profile: tuple[float, float]) -> Floats:
    """An outline symmetric about x = 0, from its right half."""
    right = _poly(*profile)
    return np.concatenate([right, right[::-1] * (-1, 1)])


# Painted in order on a square from -1 to 1, x to the right and y downwards; a later part covers an earlier one.
SHAPES: dict[str, tuple[Part, ...]] = {
    "mug": (
        (TRIM, _oval(0.58, 0.0, 0.38, 0.42)),
        (NOTHING, _oval(0.58, 0.0, 0.22, 0.26)),
        (BODY, np.concatenate([_poly((-0.75, -0.65), (0.5, -0.65)), _oval(-0.125, 0.7, 0.6, 0.14, 0, 180)])),
        (TRIM, _oval(-0.125, -0.65, 0.625, 0.13)),
    ),
    "lamp": (
        (TRIM, _box(-0.07, 0.1, 0.07, 0.85)),
        (TRIM, _oval(0.0, 0.85, 0.42, 0.11)),
        (BODY, _turned((0.38, -0.9), (0.78, 0.2))),
    ),
    "chair": (
        (TRIM, _box(-0.6, 0.25, -0.46, 0.98)),
        (TRIM, _box(0.46, 0.25, 0.6, 0.98)),
        (TRIM, _box(-0.38, -0.1, -0.26, 0.2)),
        (TRIM, _box(0.26, -0.1, 0.38, 0.2)),
        (BODY, _turned((0.4, -0.97), (0.56, -0.85), (0.5, -0.05))),
        (BODY, _turned((0.56, 0.08), (0.72, 0.38))),
    ),
    "clock": (
        (TRIM, _poly((-0.45, 0.6), (-0.65, 0.98), (-0.5, 0.98), (-0.2, 0.7))),
        (TRIM, _poly((0.45, 0.6), (0.65, 0.98), (0.5, 0.98), (0.2, 0.7))),
        (TRIM, _oval(-0.5, -0.72, 0.25, 0.22)),
        (TRIM, _oval(0.5, -0.72, 0.25, 0.22)),
        (BODY, _oval(0.0, 0.05, 0.82, 0.82)),
        (LIGHT, _oval(0.0, 0.05, 0.46, 0.46)),
        (TRIM, _box(-0.04, -0.32, 0.04, 0.09)),
        (TRIM, _box(-0.04, 0.01, 0.28, 0.09)),
    ),
    "vase": (
        (BODY, _turned(*((0.43 + 0.21 * np.cos(3.7 * (y - 0.15)), y) for y in np.linspace(-0.95, 0.95, 24)))),
        (TRIM, _oval(0.0, -0.93, 0.34, 0.08)),
    ),
    "umbrella": (
        (TRIM, _oval(0.2, 0.72, 0.26, 0.26, 0, 180)),
        (NOTHING, _oval(0.2, 0.7, 0.14, 0.15, 0, 180)),
        (TRIM, _box(-0.06, -0.98, 0.06, 0.74)),
        (BODY, _oval(0.0, 0.1, 0.97, 0.95, 180, 360)),
        (NOTHING, _oval(-0.65, 0.12, 0.32, 0.15)),
        (NOTHING, _oval(0.65, 0.12, 0.32, 0.15)),
    ),
    "shirt": (
        (BODY, _turned((0.25, -0.8), (0.5, -0.75), (0.98, -0.3), (0.72, -0.02), (0.5, -0.22), (0.5, 0.85))),
        (TRIM, _oval(0.0, -0.82, 0.3, 0.24, 0, 180)),
        (NOTHING, _oval(0.0, -0.84, 0.2, 0.16, 0, 180)),
    ),
    "bag": (
        (TRIM, _oval(0.0, -0.3, 0.42, 0.6)),
        (NOTHING, _oval(0.0, -0.3, 0.3, 0.48)),
        (BODY, _turned((0.7, -0.35), (0.88, 0.85), (0.8, 0.93))),
        (TRIM, _box(-0.16, -0.35, 0.16, -0.15)),
    ),
    "hat": (
        (BODY, _oval(0.0, 0.45, 0.98, 0.26)),
        (BODY, np.concatenate([_poly((0.58, 0.45), (-0.58, 0.45)), _oval(0.0, -0.15, 0.52, 0.55, 180, 360)])),
        (TRIM, _poly((-0.57, 0.2), (0.57, 0.2), (0.58, 0.42), (-0.58, 0.42))),
    ),
    "boot": (
        (BODY, _poly((-0.6, -0.92), (0.1, -0.92), (0.14, 0.05), (0.66, 0.22), (0.86, 0.4), (0.88, 0.72), (-0.6, 0.72))),
        (TRIM, _poly((-0.62, 0.72), (0.9, 0.72), (0.9, 0.88), (0.0, 0.88), (-0.1, 0.8), (-0.16, 0.95), (-0.62, 0.95))),
        (TRIM, _box(-0.64, -0.95, 0.14, -0.8)),
    ),
}


def _fraction(values: Floats) -> Floats:
    return values - np.floor(values) - 0.5


def _stars(u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
    x, y = _fraction(u * 0.8), _fraction(v * 0.8)
    tip, notch, tenth = 0.46, 0.19, np.pi / 5
    from_tip = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    edge: Floats = tip * notch * np.sin(tenth) / (notch * np.sin(tenth - from_tip) + tip * np.sin(from_tip))
    return np.hypot(x, y) < edge


# u and v count pattern cells across and down the object, so that a pattern turns with its object.
STYLES: dict[str, Callable[[Floats, Floats], npt.NDArray[np.bool_]]] = {
    "plain": lambda u, v: np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=bool),
    "striped": lambda u, v: _fraction(v + 0.0 * u) > 0,
    "dotted": lambda u, v: np.hypot(_fraction(u), _fraction(v)) < 0.3,
    "checked": lambda u, v: (_fraction(0.7 * u) > 0) ^ (_fraction(0.7 * v) > 0),
    "wavy": lambda u, v: _fraction(0.8 * u + 0.3 * np.sin(3.5 * v)) > 0.1,
    "starry": _stars,
}


def draw_photo(category: str, colour: str, style: str, rng: np.random.Generator) -> bytes:
    """Draw one product photo; position, size, rotation, tint, light and noise are drawn from `rng`.

    Returns:
        A JPEG of SIDE x SIDE pixels, the same bytes for the same generator state and Pillow version.
    """
    size = OVERSAMPLED * rng.uniform(0.38, 0.42)
    centre = OVERSAMPLED / 2 + OVERSAMPLED * rng.uniform(-0.03, 0.03, size=2)
    turn = np.radians(rng.normal(0, 4))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    labels = _labels(SHAPES[category], rotation * size, centre)
    y, x = np.mgrid[0:OVERSAMPLED, 0:OVERSAMPLED]
    u, v = np.moveaxis((np.stack([x, y], axis=-1) - centre) / size @ rotation, -1, 0)
    cells = rng.uniform(2.4, 2.9)
    pattern = STYLES[style](u * cells + rng.uniform(), v * cells + rng.uniform())
    fill, accent = _fill_and_accent(COLOURS[colour], rng)
    paints = np.stack([fill, fill, fill * 0.55, np.full(3, 248.0)])
    object_pixels = np.where((pattern & (labels == BODY))[..., None], accent, paints[labels])
    shaded = object_pixels * (1 - 0.14 * np.clip(u, -1, 1))[..., None]
    pixels = np.where((labels == NOTHING)[..., None], _background(u, v, rng), shaded)
    return _jpeg(pixels, rng)


def _labels(parts: tuple[Part, ...], transform: Floats, centre: Floats) -> npt.NDArray[np.uint8]:
    image = Image.new("L", (OVERSAMPLED, OVERSAMPLED), NOTHING)
    draw = ImageDraw.Draw(image)
    for label, points in parts:
        # Without an edge, a pale stripe or dot at the rim would blend into the pale wall.
        edge = TRIM if label == BODY else label
        draw.polygon((points @ transform.T + centre).ravel().tolist(), fill=label, outline=edge, width=3)
    return np.asarray(image)


def _fill_and_accent(base: tuple[int, int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    fill = np.clip(np.array(base) * rng.uniform(0.92, 1.08) + rng.normal(0, 5, size=3), 0, 255)
    # A pale accent would vanish on a pale fill, and the pattern with it.
    accent = fill * 0.55 if fill.mean() > 150 else fill * 0.2 + 255 * 0.8
    return fill, accent


def _background(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """A light wall, slightly darker to one side, with the object's soft shadow."""
    wall = rng.uniform(232, 244) + rng.normal(0, 2, size=3)
    light = rng.uniform(-3, 3) * u + rng.uniform(-3, 3) * v
    shadow = 45 * np.exp(-((u / 0.75) ** 2) - ((v - 0.97) / 0.12) ** 2)
    background: Floats = wall + (light - shadow)[..., None]
    return background


def _jpeg(pixels: Floats, rng: np.random.Generator) -> bytes:
    small = pixels.reshape(SIDE, OVERSAMPLED // SIDE, SIDE, OVERSAMPLED // SIDE, 3).mean(axis=(1, 3))
    noisy = np.clip(np.rint(small + rng.normal(0, 3, size=small.shape)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
