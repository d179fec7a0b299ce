import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.fundus.field_of_view import estimate_field_of_view, fov_diameter

HEIGHT, WIDTH, RADIUS = 240, 260, 105


def fundus(cut=0, dark_side=False, ground=8, seed=0):
    """A bright circle with a soft edge, vessels and noise on a dark ground, and its true field of view."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    distance = np.hypot(rows - 120, columns - 131)
    view = distance <= RADIUS
    view[: 120 - RADIUS + cut] = False
    light = np.full((HEIGHT, WIDTH), 170.0)
    if dark_side:
        light *= np.clip((rows + columns - 100) / 60, 0, 1)
    light[(rows + columns) % 40 < 3] *= 0.5  # vessels
    edge = np.clip((RADIUS + 1 - distance) / 2, 0, 1) * (rows >= 120 - RADIUS + cut)
    shade = ground + edge * (light - ground).clip(0)
    noise = np.random.default_rng(seed).normal(0, 2, (HEIGHT, WIDTH))
    image = (shade[..., None] * [1, 0.6, 0.3] + noise[..., None]).clip(0, 255)
    return image.astype(np.uint8), view


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("cut", [0, 12])
@pytest.mark.parametrize("ground", [0, 8, 30])
def test_the_field_of_view_is_found_also_where_it_is_cut_straight(cut, ground):
    image, view = fundus(cut, ground=ground)
    assert overlap(estimate_field_of_view(image), view) > 0.99


def test_a_field_of_view_is_found_on_white_paper_and_in_a_negative():
    image, view = fundus()
    for seen in (np.where(view[..., None], image, 255).astype(np.uint8), 255 - image):
        assert overlap(estimate_field_of_view(seen), view) > 0.98
    assert estimate_field_of_view(np.full_like(image, 255)).all()


def test_a_field_of_view_is_found_in_a_dark_frame_on_a_white_page():
    image, view = fundus()
    page = np.full((HEIGHT + 100, WIDTH + 60, 3), 255, np.uint8)
    page[40 : 40 + HEIGHT, 30 : 30 + WIDTH] = image
    page[10:14, 20:90] = 0  # its title
    found = estimate_field_of_view(page)
    assert overlap(found[40 : 40 + HEIGHT, 30 : 30 + WIDTH], view) > 0.99 and found.sum() < 1.02 * view.sum()


def test_another_eye_or_retina_around_the_circle_means_that_it_is_no_field_of_view():
    image, view = fundus()
    assert estimate_field_of_view(np.concatenate([image, image], axis=1)).all()
    around = np.where(view[..., None], image, image[view].mean(0) * 0.7)  # a bright disc
    texture = 40 * np.sin(np.arange(HEIGHT) / 7)[:, None, None]
    for ground, is_found in ((around + texture, False), (np.full_like(around, 100), True)):
        seen = np.where(view[..., None], image.astype(float) + 50, ground).clip(0, 255).astype(np.uint8)
        assert estimate_field_of_view(seen).all() != is_found


PARTS = {
    "all": np.s_[:, :],
    "from all sides": np.s_[24:-24, 26:-26],
    "a half": np.s_[:, 131:],
    "a quarter": np.s_[:120, :131],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("cut", [0, 12])
def test_a_field_of_view_has_its_diameter_whatever_part_of_it_is_seen(part, cut):
    image, view = fundus(cut)
    for seen in (view[part], estimate_field_of_view(image[part])):
        assert fov_diameter(seen) == pytest.approx(2 * RADIUS + 1, rel=0.03)


@pytest.mark.parametrize("view", [np.ones((90, 70), bool), np.zeros((90, 70), bool), np.tri(90, 70, dtype=bool)])
def test_what_is_not_round_has_no_diameter(view):
    assert fov_diameter(view) is None


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_any_side_may_be_cut(turns):
    image, view = (np.rot90(array, turns).copy() for array in fundus(cut=12))
    assert overlap(estimate_field_of_view(image), view) > 0.99


def test_a_rim_too_dark_to_be_seen_is_inside():
    image, view = fundus(dark_side=True)
    assert overlap(estimate_field_of_view(image), view) > 0.985


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 120, 3), np.uint8),
        np.full((100, 120, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8),
        np.tile(np.linspace(0, 255, 120).astype(np.uint8)[None, :, None], (100, 1, 3)),
        np.full((1, 1, 3), 9, np.uint8),
    ],
    ids=["black", "white", "noise", "ramp", "one pixel"],
)
def test_pictures_without_a_field_of_view_are_valid_everywhere(image):
    assert estimate_field_of_view(image).all()


def test_the_option_decides_where_no_file_does(tmp_path):
    for part in ("images", "masks", "fov"):
        (tmp_path / part).mkdir()
    given = np.zeros((HEIGHT, WIDTH), np.uint8)
    given[100:140] = 255
    for number in range(4):
        image, view = fundus(seed=number)
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        Image.fromarray(given).save(tmp_path / f"masks/{number}.png")
    for number in range(2):  # the others have none
        Image.fromarray(given).save(tmp_path / f"fov/{number}.png")

    def views(**options):
        data = load_segmentation_data(str(tmp_path), validation_fraction=0, **options)
        return {row["id"]: row["valid_mask"] for split in data.values() for row in split}

    by_default, estimated, everything = views(), views(fov="auto"), views(fov="none")
    assert (by_default["0"] == (given > 0)).all() and by_default["3"].all()
    assert (estimated["0"] == (given > 0)).all() and overlap(estimated["3"], view) > 0.99
    assert all(valid.all() for valid in everything.values())
