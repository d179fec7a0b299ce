"""What surrounds a structure: noise, light, spots, and the camera that sees it all.

Images here are float32 (3, size, size), 0 to 255, so that fields, float32 (size, size), broadcast against them.
Everything coarse is drawn on a small grid and enlarged, which is what keeps drawing fast.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage


def noise(
    rng: np.random.Generator, size: int, period: float | tuple[float, float], octaves: int = 1, persistence: float = 0.5
) -> np.ndarray:
    """Smooth random field of mean 0 and standard deviation 1.

    Args:
        period: size of the coarsest features in pixels; a pair (down, across) gives streaks.
        octaves: how many layers, each with half the period of the one before.
        persistence: amplitude of a layer relative to the one before.
    """
    down, across = period if isinstance(period, tuple) else (period, period)
    field = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        shape = tuple(max(2, round(size * 2**octave / extent) + 1) for extent in (down, across))
        grid = rng.standard_normal(shape, dtype=np.float32)
        enlarged = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        field += persistence**octave * np.asarray(enlarged)
    field -= field.mean()
    return field / max(float(field.std()), 1e-6)


def radius_from(size: int, x: float, y: float) -> np.ndarray:
    """Distance in pixels of every pixel centre from the point (x, y)."""
    centres = np.arange(size, dtype=np.float32) + 0.5
    return np.hypot(centres[None, :] - np.float32(x), centres[:, None] - np.float32(y))


def slope(size: int, angle: float, origin: float) -> np.ndarray:
    """Distance in pixels, with its sign, of every pixel from a line through (origin, origin) across `angle`."""
    places = np.arange(size, dtype=np.float32) - np.float32(origin)
    return np.cos(angle) * places[None, :] + np.sin(angle) * places[:, None]


def soft_disc(size: int, x: float, y: float, radius: float, softness: float) -> np.ndarray:
    """1 inside a disc, 0 outside, with an edge `softness` pixels wide."""
    return np.clip((radius - radius_from(size, x, y)) / softness + 0.5, 0, 1)


def spots(
    rng: np.random.Generator,
    size: int,
    count: int,
    radii: tuple[float, float],
    softness: float = 0.8,
    spread: float | None = None,
) -> np.ndarray:
    """A layer (0 to 1) of elliptic spots of random size, elongation and strength.

    Args:
        radii: smallest and largest half-axis in pixels.
        softness: standard deviation of the blur in pixels.
        spread: all within a cluster of this standard deviation in pixels; None scatters them over the image.
    """
    if spread is None:
        centres = rng.uniform(0, size, (count, 2))
    else:
        centres = rng.uniform(0, size, 2) + rng.normal(0, spread, (count, 2))
    half_axes = radii[0] * (radii[1] / radii[0]) ** rng.random((count, 1)) * rng.uniform(0.6, 1.0, (count, 2))
    boxes = np.concatenate([centres - half_axes, centres + half_axes], axis=1) * 2  # drawn at twice the size
    layer = Image.new("L", (size * 2, size * 2))
    draw = ImageDraw.Draw(layer)
    for box, strength in zip(boxes.tolist(), rng.integers(90, 256, count).tolist(), strict=True):
        draw.ellipse(box, fill=strength)
    layer = layer.reduce(2).filter(ImageFilter.GaussianBlur(softness))
    return np.asarray(layer, np.float32) / 255


def plain(colour: np.ndarray) -> np.ndarray:
    """An RGB colour (3,) as a float32 image (3, 1, 1) that broadcasts."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


def blend(image: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`image` with `colour`, a colour (3,) or another image, laid over it; `alpha` is (size, size), 0 to 1."""
    over = plain(colour) if np.ndim(colour) == 1 else colour
    return image + (over - image) * alpha.astype(np.float32, copy=False)


def light(rng: np.random.Generator, size: int, unevenness: float, vignette: float = 0.0) -> np.ndarray:
    """A multiplicative field of mean about 1: slow changes of brightness and darker corners."""
    field = np.exp(unevenness * noise(rng, size, size * rng.uniform(0.6, 1.5)))
    if vignette:
        x, y = rng.uniform(0.35, 0.65, 2) * size
        field *= 1 - vignette * np.minimum(radius_from(size, x, y) / (0.75 * size), 1.2) ** 2
    return field.astype(np.float32)


def cast_shadow(rng: np.random.Generator, size: int, depth: float) -> np.ndarray:
    """A multiplicative field darkened on one side of a wavy line, as under a tree or a passer-by."""
    side = slope(size, rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8) * size)
    side += noise(rng, size, size / 3, octaves=2) * size * 0.06
    return (1 - depth * np.clip(side / rng.uniform(4, 20) + 0.5, 0, 1)).astype(np.float32)


def sensor(rng: np.random.Generator, image: np.ndarray, grain: float, blur: float = 0.0) -> np.ndarray:
    """What the camera adds: blur, grain (fine and clumped, partly coloured) and clipping to uint8 (size, size, 3).

    `grain` is the standard deviation of the noise in grey levels, `blur` that of the blur in pixels; 0 for none.
    """
    if blur:
        image = ndimage.gaussian_filter(image, (0, blur, blur), truncate=2.5)
    size = image.shape[1]
    clump = rng.uniform(1.2, 2.5)  # pixels: demosaicking and compression make neighbouring errors alike
    clumped = noise(rng, size, clump)
    fine = rng.standard_normal((size, size), dtype=np.float32)
    share = np.float32(rng.uniform(0.3, 0.9))
    noisy = image + (np.float32(grain) * (share * clumped + (1 - share) * fine) + np.float32(0.5))
    colour = noise(rng, size, 2 * clump) * np.float32(0.2 * grain)
    noisy[0] += colour
    noisy[2] -= colour
    return np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def colour_cast(rng: np.random.Generator, image: np.ndarray, amount: float) -> np.ndarray:
    """Channel gains and a tone curve: other lamps, films and white balances."""
    gains = plain(np.exp(rng.normal(0, amount, 3)))
    bend = np.float32(rng.normal(0, 2 * amount) / 255)  # lifts or lowers the middle tones
    image = np.clip(image, 0, 255)
    return image * (1 + bend * (255 - image)) * gains


def compressed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Every fourth picture as a JPEG file gives it back, the others as they are."""
    if rng.random() > 0.25:
        return image
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(30, 96)))
    return np.ascontiguousarray(Image.open(file))
