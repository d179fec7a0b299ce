"""Roads seen from above: town grids and country lanes, with what lies beside, on and over them."""

import numpy as np
from PIL import Image, ImageDraw

from .growth import WIDEST_PX, border_point, side_branch, smooth_path
from .strokes import Stroke, rasterise
from .textures import blend, cast_shadow, colour_cast, compressed, light, noise, plain, sensor, spots

GREENS = np.array([[92, 104, 62], [120, 122, 78], [70, 88, 58], [150, 132, 95], [104, 116, 84]], float)
ROOFS = np.array([[165, 85, 65], [120, 112, 110], [205, 200, 195], [95, 90, 95], [150, 125, 100]], float)
SURFACES = np.array([[128, 126, 124], [90, 90, 94], [180, 174, 164], [196, 172, 138]], float)


def draw_roads(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One aerial picture: `(image, mask, field of view)`, uint8 (size, size, 3), bool and bool (size, size)."""
    angle = rng.uniform(0, np.pi / 2)
    is_town = rng.random() < 0.5
    zoom = rng.uniform(0.6, 1.5)
    strokes = _town(rng, size, angle, zoom) if is_town else _country(rng, size, zoom)
    coverage, strength = rasterise(strokes, size)
    image = _land(rng, size)
    if is_town:
        image = _add_houses(rng, image, coverage, angle, zoom)
    image = _pave(rng, image, strokes, coverage, strength)
    if rng.random() < 0.7:  # crowns, over whatever is there: roads stay in the mask where a crown hides a bit of them
        count = int(rng.integers(5, 60) * (size / 256) ** 2) + 1
        crowns = spots(rng, size, count, (1.2 * zoom, 4.0 * zoom), 0.7)
        leaves = np.array([48, 62, 38]) * rng.uniform(0.7, 1.2)
        image = blend(image, leaves, crowns * rng.uniform(0.5, 0.9))
    image *= light(rng, size, rng.uniform(0.02, 0.1), rng.uniform(0, 0.15))
    if rng.random() < 0.15:
        image *= cast_shadow(rng, size, rng.uniform(0.2, 0.4))
    image = colour_cast(rng, image, 0.06)
    image = sensor(rng, image, rng.uniform(1.5, 6), rng.uniform(0.4, 0.9) if rng.random() < 0.6 else 0.0)
    return image, coverage >= 0.5, np.ones((size, size), bool)


def draw_aerial(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Roads from lower above, up to 30 pixels wide, among roofs as bright and as straight as they are."""
    zoom = float(np.exp(rng.uniform(np.log(0.8), np.log(4.0))))
    angle = rng.uniform(0, np.pi / 2)
    is_town = rng.random() < 0.65
    if is_town:
        strokes = [_road(s.points, min(s.widths[0], WIDEST_PX), s.strengths[0]) for s in _town(rng, size, angle, zoom)]
    else:
        strokes = []
        for _ in range(int(rng.integers(1, 4))):
            turn = rng.uniform(0, 2 * np.pi)
            ends = [border_point(rng, size, turn + half, WIDEST_PX) for half in (0, np.pi + rng.normal(0, 0.4))]
            width = float(np.clip(rng.uniform(2, 9) * zoom, 1.6, WIDEST_PX))
            strokes.append(_road(smooth_path(rng, *ends, rng.uniform(0.01, 0.15)), width))
    coverage, strength = rasterise(strokes, size)
    image = _land(rng, size)
    if is_town or rng.random() < 0.5:
        image = _add_houses(rng, image, coverage, angle, zoom * rng.uniform(0.7, 1.3))
    image = _pave(rng, image, strokes, coverage, strength)
    if rng.random() < 0.7:
        count = int(rng.integers(5, 60) * (size / 256) ** 2 / zoom) + 1
        crowns = spots(rng, size, count, (1.2 * zoom, 4.0 * zoom), 0.7)
        image = blend(image, np.array([48, 62, 38]) * rng.uniform(0.7, 1.4), crowns * rng.uniform(0.5, 0.9))
    if rng.random() < 0.5:  # cars, on the roads and beside them
        cars = spots(rng, size, int(40 * (size / 256) ** 2), (0.8 * zoom, 1.4 * zoom), 0.4)
        image = blend(image, ROOFS[rng.integers(len(ROOFS))] * rng.uniform(0.4, 1.2), cars * rng.uniform(0.5, 1))
    image *= light(rng, size, rng.uniform(0.02, 0.1), rng.uniform(0, 0.15))
    if rng.random() < 0.2:
        image *= cast_shadow(rng, size, rng.uniform(0.2, 0.4))
    image = sensor(rng, colour_cast(rng, image, 0.08), rng.uniform(1.5, 8), rng.uniform(0.4, 1.2))
    return compressed(rng, image), coverage >= 0.5, np.ones((size, size), bool)


def _road(points: np.ndarray, width: float, strength: float = 1.0) -> Stroke:
    return Stroke(points, np.full(len(points), width), np.full(len(points), strength))


def _town(rng: np.random.Generator, size: int, angle: float, zoom: float) -> list[Stroke]:
    """Two families of parallel streets with missing pieces, and sometimes an avenue across."""
    street = rng.uniform(3.0, 7.0) * zoom
    strokes = []
    for family in (angle, angle + np.pi / 2 + rng.normal(0, 0.06)):
        along, across = np.array([np.cos(family), np.sin(family)]), np.array([-np.sin(family), np.cos(family)])
        gap = rng.uniform(38, 75) * zoom
        reach = int(0.75 * size / gap) + 1
        # One street of each family runs near the middle: a small picture is never without a road.
        for offset in np.arange(-reach, reach + 1) * gap + rng.uniform(-0.5, 0.5) * min(gap, 0.6 * size):
            ends = np.array([-0.8, 0.8]) * size
            if rng.random() < 0.35:  # a street that stops in the middle
                ends[rng.integers(2)] = rng.uniform(-0.3, 0.3) * size
            middle = size / 2 + across * (offset + rng.uniform(-0.1, 0.1) * min(gap, size))
            path = smooth_path(rng, middle + along * ends[0], middle + along * ends[1], 0.004)
            strokes.append(_road(path, street * rng.uniform(0.8, 1.15), rng.uniform(0.85, 1.0)))
    if rng.random() < 0.5:
        strokes.append(_through_road(rng, size, rng.uniform(7, 12) * zoom, 0.05))
    return strokes


def _country(rng: np.random.Generator, size: int, zoom: float) -> list[Stroke]:
    """One to three winding roads, and lanes that leave them."""
    strokes = [_through_road(rng, size, rng.uniform(4, 10) * zoom, 0.12) for _ in range(int(rng.integers(1, 4)))]
    for _ in range(int(rng.integers(0, 6))):
        parent = strokes[rng.integers(len(strokes))]
        ends = side_branch(rng, parent.points, (0.9, 2.2), (0.2, 0.9), size)
        width = max(1.6, float(parent.widths[0]) * rng.uniform(0.35, 0.8))
        strokes.append(_road(smooth_path(rng, *ends, 0.08), width, rng.uniform(0.8, 1.0)))
    return strokes


def _through_road(rng: np.random.Generator, size: int, width: float, bend: float) -> Stroke:
    angle = rng.uniform(0, 2 * np.pi)
    start = border_point(rng, size, angle, 8)
    end = border_point(rng, size, angle + np.pi + rng.normal(0, 0.3), 8)
    return _road(smooth_path(rng, start, end, bend), min(width, 14.0))


def _land(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fields: patches around random seeds, each of its own colour, some of them ploughed in lines."""
    count = int(rng.integers(1, 12))
    centres = np.arange(size, dtype=np.float32)
    warp = noise(rng, size, size / 4) * np.float32(0.02 * size)
    seeds = rng.uniform(0, size, (count, 2)).astype(np.float32)
    distances = [(centres[None, :] - x + warp) ** 2 + (centres[:, None] - y) ** 2 for x, y in seeds]
    patch = np.argmin(distances, axis=0)
    base = GREENS[rng.integers(len(GREENS))] * rng.uniform(0.6, 1.3)
    colours = base * rng.uniform(0.8, 1.2, (count, 1)) * rng.uniform(0.92, 1.08, (count, 3))
    image = colours.astype(np.float32).T[:, patch]
    furrows = np.sin((centres[None, :] * rng.uniform(-1, 1) + centres[:, None] * rng.uniform(-1, 1)) * 1.5)
    ploughed = rng.uniform(0, 0.06, count).astype(np.float32) * (rng.random(count) < 0.3)
    texture = ploughed[patch] * furrows
    texture += rng.uniform(0.03, 0.1) * noise(rng, size, rng.uniform(8, 30), octaves=3, persistence=0.8)
    return image * np.exp(texture.astype(np.float32))


def _add_houses(
    rng: np.random.Generator, image: np.ndarray, road_coverage: np.ndarray, angle: float, zoom: float
) -> np.ndarray:
    """Roofs in line with the streets, each with a shadow; none stands on a road."""
    size = image.shape[1]
    sheet = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    draw = ImageDraw.Draw(sheet)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    shadow = rng.uniform(-4, 4, 2)
    for _ in range(int(rng.integers(30, 180) * (size / 256) ** 2)):
        centre = rng.uniform(0, size, 2)
        half = rng.uniform(3, 9, 2) * zoom
        outline = centre + corners[:, :1] * half[0] * along + corners[:, 1:] * half[1] * across
        pixels = np.clip(np.concatenate([outline, centre[None]]).astype(int), 0, size - 1)
        if road_coverage[pixels[:, 1], pixels[:, 0]].any():
            continue
        roof = ROOFS[rng.integers(len(ROOFS))] * rng.uniform(0.8, 1.2)
        draw.polygon([tuple(point) for point in outline + shadow], fill=(35, 36, 34))
        draw.polygon([tuple(point) for point in outline], fill=tuple(np.minimum(roof, 255).astype(int).tolist()))
    return np.asarray(sheet, np.float32).transpose(2, 0, 1)


def _pave(
    rng: np.random.Generator, image: np.ndarray, strokes: list[Stroke], coverage: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """The surface, in a colour that stands off from the land, with centre lines and cars on the wider roads."""
    size = image.shape[1]
    land = float(image.mean())
    apart = np.abs(SURFACES.mean(axis=1) - land)
    surface = SURFACES[rng.choice(np.flatnonzero(apart > min(30.0, apart.max() - 1e-6)))] * rng.uniform(0.95, 1.05)
    worn = 1 + 0.04 * noise(rng, size, 10, octaves=2)
    image = blend(image, plain(surface) * worn, np.clip(strength, 0, 1))
    if rng.random() < 0.3:
        wide = [stroke.scaled(0.12) for stroke in strokes if stroke.widths[0] > 7]
        image = blend(image, np.array([235, 230, 215]), rasterise(wide, size)[0] * 0.6)
    if rng.random() < 0.5:
        cars = spots(rng, size, int(60 * (size / 256) ** 2), (1.2, 1.9), 0.4) * (coverage > 0.9)
        image = blend(image, ROOFS[rng.integers(len(ROOFS))] * rng.uniform(0.4, 1.2), cars)
    return image
