"""Vessel trees: retinal photographs above all, and other pictures of thin branching things."""

from dataclasses import dataclass

import numpy as np

from .growth import THINNEST_PX, Shoot, TreeStyle, grow_tree
from .strokes import Stroke, rasterise
from .textures import blend, cast_shadow, colour_cast, light, noise, plain, radius_from, sensor, soft_disc, spots

WIDEST_PX = 14.0
# Background colours of real fundus photographs (red, green, blue), from pale to dark and from orange to brown.
FUNDUS = np.array([[205, 118, 70], [172, 88, 50], [132, 60, 34], [215, 95, 30], [185, 120, 95], [110, 62, 38]], float)
_ARTERIAL = np.array([0.65, 0.25, 0.2])  # how far arteries are from the veins' colour to the background's
EXUDATE = np.array([250, 235, 170])


@dataclass(frozen=True)
class Look:
    """How an image of vessels is coloured."""

    background: np.ndarray  # (3,) RGB, 0 to 255
    vessel: np.ndarray  # (3,) RGB that a wide vessel of full strength approaches
    contrast: float  # share of the way from background to vessel at full strength, 0 to 1
    thin_share: float  # strength of the thinnest vessels relative to the widest
    is_fundus: bool  # with optic disc, round field of view and the lesions of a retina


def draw_vessels(
    rng: np.random.Generator, size: int, of_classes: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of vessels: `(image, mask, field of view)`, uint8 (size, size, 3), bool and bool (size, size).

    `of_classes`: a fundus photograph whose mask is (2, size, size), arteries and veins: arteries are thinner, brighter
    and redder.
    """
    look = _draw_look(rng, of_classes)
    hub = rng.uniform(-12, size + 12, 2) if rng.random() < 0.6 else None  # where the vessels come from
    disc_radius = rng.uniform(16, 48)
    trees = _grow_trees(rng, size, hub, disc_radius, of_classes)
    fov = np.ones((size, size), bool)
    if look.is_fundus and rng.random() < 0.35:  # it holds the middle of the picture and may leave a side dark
        fov = radius_from(size, *(size * rng.uniform(0.35, 0.65, 2))) <= size * rng.uniform(0.48, 0.7)

    image = _background(rng, size, look)
    if look.is_fundus and hub is not None:
        image = _add_disc(rng, image, hub, disc_radius)
    image = _add_lesions(rng, image, look)  # before the vessels, which pass in front
    masks = np.zeros((2, size, size), bool)  # veins, then arteries
    reflex = rng.uniform(0.2, 0.6) if rng.random() < 0.5 else 0.0
    for number, tree in enumerate(trees):
        is_artery = number % 2 == 1
        tree = [_thinner(stroke, 0.75) for stroke in tree] if of_classes and is_artery else tree
        strokes = [_with_strength(rng, stroke, look.thin_share) for stroke in tree]
        coverage, strength = rasterise(strokes, size)
        masks[number % 2] |= coverage >= 0.5
        # Arteries (every second tree) are paler than veins and carry the light reflex.
        shade = look.contrast * (rng.uniform(0.65, 0.9) if is_artery else 1.0)
        alpha = strength * shade * (1 + 0.08 * noise(rng, size, 24))
        colour = look.vessel + _ARTERIAL * (look.background - look.vessel) * (of_classes and is_artery)
        image = blend(image, colour, np.clip(alpha, 0, 1))
        if reflex and is_artery:
            image = _add_reflex(image, strokes, look, reflex * shade)

    image = image * light(rng, size, rng.uniform(0.03, 0.2), rng.uniform(0, 0.5))
    if rng.random() < 0.12:
        image = image * cast_shadow(rng, size, rng.uniform(0.15, 0.4))
    image = colour_cast(rng, image, 0.05)
    if not fov.all():
        image = np.where(fov, image, np.float32(rng.uniform(0, 12)))
    # Thin vessels carry the least contrast: the grain must leave them visible.
    thin_contrast = look.thin_share * look.contrast * float(np.abs(look.vessel - look.background).max())
    grain = min(rng.uniform(0.1, 0.45) * thin_contrast, 9.0)
    image = sensor(rng, image, grain, rng.uniform(0.4, 0.9) if rng.random() < 0.7 else 0.0)
    return image, (masks[::-1] if of_classes else masks.any(axis=0)) & fov, fov


def _draw_look(rng: np.random.Generator, of_fundus: bool = False) -> Look:
    thin_share = rng.uniform(0.35, 0.65)
    kind = rng.random() * (0.55 if of_fundus else 1)
    if kind < 0.55:  # colour photograph of a retina: blood takes away green and blue, hardly red
        background = FUNDUS[rng.integers(len(FUNDUS))] * rng.uniform(0.8, 1.15) * rng.uniform(0.93, 1.07, 3)
        vessel = background * np.array([rng.uniform(0.55, 0.9), rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.6)])
        return Look(background, vessel, rng.uniform(0.5, 1.0), thin_share, True)
    if kind < 0.67:  # red-free photograph or X-ray angiogram: grey, dark on bright
        background = np.full(3, rng.uniform(90, 200))
        vessel = background * rng.uniform(0.1, 0.45)
        return Look(background, vessel, rng.uniform(0.5, 1.0), thin_share, rng.random() < 0.5)
    if kind < 0.85:  # fluorescence, OCT angiography: bright on dark
        background = np.full(3, rng.uniform(15, 80))
        if rng.random() < 0.4:
            background = background * rng.uniform(0.2, 1.0, 3)
        vessel = background + rng.uniform(110, 190) * (rng.uniform(0.4, 1.0, 3) if rng.random() < 0.4 else 1.0)
        return Look(background, vessel, rng.uniform(0.65, 1.0), thin_share, False)
    while True:  # any two colours that differ enough to be told apart
        background, vessel = rng.uniform(20, 235, (2, 3))
        if abs(background.mean() - vessel.mean()) > 45:
            return Look(background, vessel, rng.uniform(0.6, 1.0), thin_share, False)


def _grow_trees(
    rng: np.random.Generator, size: int, hub: np.ndarray | None, disc_radius: float, always_two: bool = False
) -> list[list[Stroke]]:
    """Two trees (veins, then arteries), or a single one."""
    zoom = rng.uniform(0.7, 2.0)
    area = (size / 256) ** 2
    style = TreeStyle(
        wander=rng.uniform(0.13, 0.32),
        tortuosity=rng.uniform(0.3, 0.9) if rng.random() < 0.3 else rng.uniform(0, 0.15),
        taper=rng.uniform(0.05, 0.35),
        spacing=rng.uniform(14, 45) * zoom,
        max_branches=max(4, int(rng.uniform(15, 60) * max(area, 0.3))),
    )
    clear = max(40.0, 1.5 * disc_radius)
    trees = []
    for _ in range(1 if rng.random() < 0.2 and not always_two else 2):
        count = int(rng.integers(2, 6)) if hub is not None else max(2, round(rng.uniform(2, 4) * size / 256))
        roots = []
        for turn in rng.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count:
            width = float(np.clip(rng.uniform(2.0, 7.5) * zoom, 1.5, WIDEST_PX))
            if hub is not None:
                start = np.clip(hub + rng.normal(0, 0.25 * disc_radius, 2), -20, size + 20)
                roots.append(Shoot(*start, turn, width, clear))
            else:
                start = size / 2 + np.clip(0.75 * size * np.array([np.cos(turn), np.sin(turn)]), -size / 2, size / 2)
                inward = np.arctan2(*(size / 2 - start)[::-1])
                roots.append(Shoot(*start, inward + rng.normal(0, 0.4), width, 0.0))
        if hub is not None:  # the hub may lie outside: one trunk always heads for the middle of the picture
            inward = np.arctan2(*(size / 2 - hub)[::-1])
            width = float(np.clip(rng.uniform(3, 7.5) * zoom, 2, WIDEST_PX))
            roots.append(Shoot(*hub, inward + rng.normal(0, 0.3), width, clear))
        trees.append(grow_tree(rng, size, roots, style))
    return trees


def _thinner(stroke: Stroke, factor: float) -> Stroke:
    return Stroke(stroke.points, np.maximum(stroke.widths * factor, THINNEST_PX), stroke.strengths)


def _with_strength(rng: np.random.Generator, stroke: Stroke, thin_share: float) -> Stroke:
    """Strength grows with width, as the depth of blood does, and differs a little from branch to branch."""
    depth = np.minimum((stroke.widths - 1) / 6, 1) ** 0.8
    strengths = (thin_share + (1 - thin_share) * depth) * rng.uniform(0.8, 1.0)
    return Stroke(stroke.points, stroke.widths, strengths)


def _add_reflex(image: np.ndarray, strokes: list[Stroke], look: Look, amount: float) -> np.ndarray:
    """The bright line along the middle of wide arteries: part of the way back to the background's colour."""
    wide = [stroke.scaled(0.3) for stroke in strokes if stroke.widths.mean() > 4.5]
    if not wide:
        return image
    _, strength = rasterise(wide, image.shape[1])
    return blend(image, look.background * 0.9 + look.vessel * 0.1, np.clip(strength * amount * 1.5, 0, 0.7))


def _background(rng: np.random.Generator, size: int, look: Look) -> np.ndarray:
    mottle = rng.uniform(0.02, 0.07) * noise(rng, size, rng.uniform(12, 50), octaves=3, persistence=0.7)
    image = plain(look.background) * (1 + mottle)
    if rng.random() < 0.3:  # the choroid's vessels shine through: broad, blurred, not in the mask
        ridges = np.abs(noise(rng, size, rng.uniform(25, 50), octaves=2))
        image *= 1 + rng.uniform(0.04, 0.1) * (ridges - 0.8)
    if rng.random() < 0.3:  # macula, or any dark cloud
        x, y = rng.uniform(0, size, 2)
        cloud = np.exp(-((radius_from(size, x, y) / rng.uniform(20, 60)) ** 2))
        image *= 1 - rng.uniform(0.15, 0.45) * cloud
    if rng.random() < 0.25:  # nerve fibres, or streaks of tissue
        periods = (size * 0.4, 6.0) if rng.random() < 0.5 else (6.0, size * 0.4)
        image *= 1 + rng.uniform(0.01, 0.025) * noise(rng, size, periods)
    return image


def _add_disc(rng: np.random.Generator, image: np.ndarray, hub: np.ndarray, radius: float) -> np.ndarray:
    """The optic disc: bright, with a brighter cup and an uneven rim."""
    size = image.shape[1]
    colour = image.mean(axis=(1, 2)) * rng.uniform(1.1, 1.4) + np.array([20, 60, 30]) * rng.uniform(0.5, 1.3)
    alpha = soft_disc(size, *hub, radius, rng.uniform(3, 12)) * rng.uniform(0.6, 1.0)
    image = blend(image, colour, alpha)
    cup = soft_disc(size, *(hub + rng.normal(0, 0.15 * radius, 2)), radius * rng.uniform(0.3, 0.6), radius * 0.3)
    image = blend(image, colour * 1.15 + 15, cup * 0.7)
    halo = np.exp(-(((radius_from(size, *hub) - 1.15 * radius) / (0.12 * radius)) ** 2))
    return image * (1 - rng.uniform(-0.1, 0.2) * halo)


def _add_lesions(rng: np.random.Generator, image: np.ndarray, look: Look) -> np.ndarray:
    """Spots that are no vessels, dark and bright."""
    size = image.shape[1]
    area = (size / 256) ** 2
    if rng.random() < 0.35:  # bleedings, or dark specks
        dark = spots(rng, size, int(rng.integers(3, 25) * area) + 1, (1.0, 7.0), rng.uniform(0.6, 2.0))
        image = blend(image, look.background * rng.uniform(0.35, 0.7), dark * rng.uniform(0.4, 0.9))
    if rng.random() < 0.3:  # drusen, or bright specks
        bright = spots(rng, size, int(rng.integers(5, 60) * area) + 1, (0.8, 5.0), rng.uniform(0.6, 1.5))
        image = blend(image, np.minimum(look.background * 1.6 + 15, 255), bright * rng.uniform(0.3, 0.8))
    if look.is_fundus and rng.random() < 0.2:  # a cluster of hard exudates
        exudates = spots(rng, size, int(rng.integers(15, 60)), (1.0, 5.0), 0.7, spread=rng.uniform(10, 40))
        image = blend(image, EXUDATE, exudates * 0.8)
    return image
