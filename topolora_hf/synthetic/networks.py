"""Curvilinear structures of any kind: 1 to 30 pixels wide, bright or dark, on any ground.

Lines, trees and meshes (cell walls, capillaries) stand for roots, neurites, fibres, hair, rivers, cracks and membranes.
What they are made of and what lies around them is drawn independently of their shape.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from .growth import (
    THINNEST_PX,
    WIDEST_PX,
    Shoot,
    TreeStyle,
    border_point,
    grow_tree,
    jagged_path,
    side_branch,
    smooth_path,
)
from .strokes import Stroke, rasterise
from .textures import blend, cast_shadow, colour_cast, compressed, light, noise, plain, sensor, spots


def draw_networks(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of a network: `(image, mask, field of view)`, uint8 (size, size, 3), bool and bool (size, size)."""
    width = float(np.exp(rng.uniform(np.log(1.4), np.log(min(WIDEST_PX, size / 8)))))
    shape = (_tree, _lines, _fibres, _mesh, _angiogram)[rng.choice(5, p=[0.23, 0.23, 0.18, 0.24, 0.12])]
    coverage, strength = shape(rng, size, width)
    alpha = _profile(rng, coverage, strength, width)
    ground, colour, contrast = _colours(rng)
    image = _ground(rng, size, ground, colour, contrast, width)
    image = blend(image, plain(colour) * np.exp(rng.uniform(0, 0.12) * noise(rng, size, rng.uniform(3, 20))), alpha)
    image *= light(rng, size, rng.uniform(0.02, 0.2), rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0)
    if rng.random() < 0.12:
        image *= cast_shadow(rng, size, rng.uniform(0.15, 0.4))
    return _camera(rng, colour_cast(rng, image, 0.05), contrast, width), coverage >= 0.5, np.ones((size, size), bool)


def _tree(rng: np.random.Generator, size: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Roots and neurites: one to three branching trees, of which each keeps out of its own way."""
    zoom = max(width / 4, 0.6)
    tortuosity = rng.uniform(0.2, 0.9) if rng.random() < 0.4 else rng.uniform(0, 0.2)
    branches = int(rng.uniform(4, 50) * (size / 256) ** 2 / max(zoom, 1)) + 2
    style = TreeStyle(rng.uniform(0.08, 0.35), tortuosity, rng.uniform(0, 0.4), rng.uniform(12, 60) * zoom, branches)
    strokes = []
    for _ in range(int(rng.integers(1, 4))):
        turn = rng.uniform(0, 2 * np.pi)
        start = np.clip(size / 2 + 0.75 * size * np.array([np.cos(turn), np.sin(turn)]), -5, size + 5)
        heading = np.arctan2(*(size * rng.uniform(0.3, 0.7, 2) - start)[::-1])
        root = width * rng.uniform(0.8, 1.2)
        strokes += grow_tree(rng, size, [Shoot(*start, heading, max(root, 1.5), size / 3)], style)
    return rasterise([_faded(rng, stroke) for stroke in strokes], size)


def _lines(rng: np.random.Generator, size: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Rivers, cracks and lanes: a few lines through the picture, with side branches."""
    rough = rng.random() < 0.5
    amount = rng.uniform(0.02, 0.08) if rough else rng.uniform(0.01, 0.25)
    path = jagged_path if rough else smooth_path
    uneven = rng.uniform(0.05, 0.35)
    paths, angle = [], rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(1, 4))):
        start = border_point(rng, size, angle, WIDEST_PX)
        middle = size * rng.uniform(0.25, 0.75, 2)
        end = start + (middle - start) * (rng.uniform(1.0, 1.5) if rng.random() < 0.3 else 2.5)
        paths.append((path(rng, start, end, amount), width * rng.uniform(0.7, 1.1)))
        angle += rng.uniform(0.6, 2.5)
    for _ in range(int(rng.choice([0, 1, 3, 6]))):
        points, parent = paths[rng.integers(len(paths))]
        ends = side_branch(rng, points, (0.4, 1.6), (0.12, 0.7), size)
        paths.append((path(rng, *ends, amount * 1.2), parent * rng.uniform(0.4, 0.9)))
    strokes = []
    for points, own in paths:
        slow = np.interp(np.arange(len(points)), np.linspace(0, len(points), 8), rng.normal(0, uneven, 8))
        fast = rng.normal(0, 0.2 * rough, len(points))
        widths = np.clip(own * np.exp(slow + fast), THINNEST_PX, 1.3 * WIDEST_PX)
        strokes.append(_faded(rng, Stroke(points, widths, np.ones(len(points)))))
    return rasterise(strokes, size)


def _fibres(rng: np.random.Generator, size: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Fibres and hair: many smooth, wavy lines of even width that cross, in one direction or in all."""
    count = int(np.clip(rng.uniform(0.3, 1.6) * size / (4 * width + 8), 1, 30))
    main, spread = rng.uniform(0, 2 * np.pi), rng.choice([0.15, 0.6, 3.0])
    bend, waves = rng.uniform(0, 0.15), rng.uniform(0, 3)
    strokes = []
    for _ in range(count):
        angle = main + rng.uniform(-spread, spread)
        along = np.array([np.cos(angle), np.sin(angle)])
        middle = rng.uniform(0, size, 2)
        half = size * (rng.uniform(0.1, 0.4) if rng.random() < 0.3 else 1.2)
        points = smooth_path(rng, middle - half * along, middle + half * along, bend)
        period, phase = rng.uniform(10, 30) + 5 * width, rng.uniform(0, 2 * np.pi)
        swing = waves * np.sin(2 * np.pi * np.linspace(0, 2 * half, len(points)) / period + phase)
        points = points + swing[:, None] * np.array([-along[1], along[0]])
        widths = np.full(len(points), max(THINNEST_PX, width * rng.uniform(0.7, 1.3)))
        strokes.append(Stroke(points, widths, np.full(len(points), rng.uniform(0.5, 1.0))))
    return rasterise(strokes, size)


def _mesh(rng: np.random.Generator, size: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell walls, capillaries, mud cracks: the borders between warped cells, some of them open."""
    cell = width * rng.uniform(4, 12) + 8
    margin = int(np.ceil(1.5 * cell))
    count = int(((size + 2 * margin) / cell) ** 2) + 2
    seeds = rng.uniform(-margin, size + margin, (count, 2)) * np.exp(rng.normal(0, 0.15, 2))
    fine = np.arange(2 * size, dtype=np.float32) / 2 + 0.25
    warp = [rng.uniform(0, 0.2) * cell * noise(rng, 2 * size, 2 * cell * rng.uniform(0.5, 2), octaves=2) for _ in "xy"]
    places = np.stack([fine[None, :] + warp[0], fine[:, None] + warp[1]], axis=-1)
    owner = cKDTree(seeds).query(places.reshape(-1, 2), workers=1)[1].reshape(2 * size, 2 * size)
    if rng.random() < 0.3:  # neighbours that have grown together: cells of very different sizes
        owner = rng.integers(0, max(3, int(count * 0.6)), count)[owner]
    same = np.ones(owner.shape, bool)
    same[:, 1:] &= owner[:, 1:] == owner[:, :-1]
    same[1:] &= owner[1:] == owner[:-1]
    distance = ndimage.distance_transform_edt(same).astype(np.float32).reshape(size, 2, size, 2).mean(axis=(1, 3)) / 2
    local = width * np.exp(rng.uniform(0, 0.3) * noise(rng, size, rng.uniform(0.5, 3) * cell))
    coverage = np.clip(np.maximum(local, THINNEST_PX) / 2 - distance + 0.5, 0, 1)
    return coverage, coverage * np.clip(0.85 + rng.uniform(0, 0.2) * noise(rng, size, cell), 0.4, 1)


def _angiogram(rng: np.random.Generator, size: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Trees over a fine mesh of capillaries, which counts only where it is clear."""
    width = min(width, 9.0)
    coverage, strength = _tree(rng, size, width)
    fine_coverage, fine = _mesh(rng, size, float(np.clip(width * rng.uniform(0.2, 0.5), 1.3, 3.0)))
    if rng.random() < 0.5:
        return np.maximum(coverage, fine_coverage), np.maximum(strength, fine * rng.uniform(0.45, 0.9))
    return coverage, np.maximum(strength, fine * rng.uniform(0.1, 0.35))


def _faded(rng: np.random.Generator, stroke: Stroke) -> Stroke:
    """The stroke, clearer in some parts than in others."""
    count = len(stroke.points)
    fade = np.interp(np.arange(count), np.linspace(0, count, 6), rng.uniform(rng.uniform(0.5, 1.0), 1.0, 6))
    return Stroke(stroke.points, stroke.widths, fade)


def _profile(rng: np.random.Generator, coverage: np.ndarray, strength: np.ndarray, width: float) -> np.ndarray:
    """How far each pixel has the structure's colour: a flat band, a round ridge, or a tube with clear walls."""
    kind = rng.random()
    if kind < 0.5 or width < 2.5:
        return np.clip(strength, 0, 1)
    depth = ndimage.distance_transform_edt(coverage >= 0.5)
    if kind < 0.8:  # a ridge: the colour grows towards the middle
        rise = np.clip((depth + 0.3) / (width / 2 + 0.3), 0, 1)
        return np.clip(strength, 0, 1) * (1 - rng.uniform(0.2, 0.7) * (1 - np.sin(rise * np.pi / 2)))
    wall = np.exp(-((depth / max(1.2, width * rng.uniform(0.1, 0.25))) ** 2))
    inside = rng.uniform(0.2, 0.7)
    return np.clip(strength, 0, 1) * (inside + (1 - inside) * wall)


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """`(ground, structure, contrast)`: two colours of which either may be the brighter, and their distance."""
    contrast = float(np.exp(rng.uniform(np.log(24), np.log(170))))
    middle = rng.uniform(20 + contrast / 2, 235 - contrast / 2) if contrast < 200 else 127.0
    sign = rng.choice([-1, 1])
    ground, colour = np.full(3, middle - sign * contrast / 2), np.full(3, middle + sign * contrast / 2)
    if rng.random() < 0.5:
        ground = ground * rng.uniform(0.75, 1.25, 3)
        colour = colour + (ground - ground.mean()) * rng.uniform(0, 1) + rng.normal(0, 0.12 * contrast, 3)
    return ground, colour, contrast


def _ground(
    rng: np.random.Generator, size: int, ground: np.ndarray, colour: np.ndarray, contrast: float, width: float
) -> np.ndarray:
    """Texture, patches, specks, bodies and rectangles: whatever is no line."""
    area = (size / 256) ** 2
    step = contrast / max(float(ground.mean()), 30.0)
    octaves = int(rng.integers(1, 5))
    texture = rng.uniform(0.02, 0.3) * noise(rng, size, np.exp(rng.uniform(1.1, 4.0)), octaves, rng.uniform(0.4, 0.9))
    image = plain(ground) * np.exp(np.clip(step * texture, -1.5, 1.5))
    if rng.random() < 0.25:  # patches with an edge
        field = noise(rng, size, rng.uniform(0.2, 0.8) * size, octaves=int(rng.integers(1, 4)))
        patch = np.clip((field - rng.uniform(-0.5, 1)) * rng.uniform(2, 30), 0, 1)
        image = blend(image, colour, patch * rng.uniform(0.1, 0.45))
    if rng.random() < 0.35:  # bodies: organelles, stones, bleedings
        largest = float(np.clip(rng.uniform(1.0, 3.0) * width, 3, size / 10))
        bodies = spots(
            rng, size, int(rng.integers(3, 60) * area * 6 / largest) + 2, (1.0, largest), rng.uniform(0.5, 2)
        )
        image = blend(image, colour if rng.random() < 0.6 else 2 * ground - colour, bodies * rng.uniform(0.3, 0.9))
    if rng.random() < 0.2:
        image = _add_boxes(rng, image, ground, colour, contrast, width)
    if rng.random() < 0.15:  # lines out of focus, and too faint to count
        faint = _lines(rng, size, width * rng.uniform(1, 2))[1]
        image = blend(image, colour, ndimage.gaussian_filter(faint, 2 + 0.4 * width) * rng.uniform(0.1, 0.25))
    return image


def _add_boxes(
    rng: np.random.Generator, image: np.ndarray, ground: np.ndarray, colour: np.ndarray, contrast: float, width: float
) -> np.ndarray:
    """Rectangles and characters, which have straight edges and yet are no lines."""
    size = image.shape[1]
    layer = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(layer)
    turn = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for _ in range(int(rng.integers(1, 25))):
        half = rng.uniform(0.8, 2.5, 2) * max(width, 5)
        outline = 2 * (rng.uniform(0, size, 2) + (corners * half) @ axes)
        draw.polygon([tuple(point) for point in outline.tolist()], fill=int(rng.integers(90, 256)))
    alpha = np.asarray(layer.reduce(2), np.float32) / 255
    other = ground + rng.choice([-1, 1]) * contrast * rng.uniform(0.4, 1.3) * np.ones(3)
    return blend(image, colour if rng.random() < 0.4 else np.clip(other, 5, 250), alpha)


def _camera(rng: np.random.Generator, image: np.ndarray, contrast: float, width: float) -> np.ndarray:
    """Speckle, stripes, blur, grain and compression, as far as they leave the structure visible."""
    size = image.shape[1]
    visible = contrast * min(1.0, 0.35 + width / 12)  # wide structures stand stronger noise
    if rng.random() < 0.25:
        looks = rng.uniform(4, 25)
        image = image * np.sqrt(rng.standard_gamma(looks, (size, size)) / looks).astype(np.float32)
    if rng.random() < 0.1:  # lines of a scanner
        image = image + rng.normal(0, 0.1 * visible, (size, 1) if rng.random() < 0.5 else (1, size)).astype(np.float32)
    blur = rng.uniform(0.3, min(0.5 + 0.12 * width, 2.5)) if rng.random() < 0.7 else 0.0
    return compressed(rng, sensor(rng, image, min(visible * rng.uniform(0.03, 0.5), 35.0), blur))
