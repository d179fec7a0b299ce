import numpy as np
import pytest
from PIL import Image

from topolora_hf.pictures.classes import SEVERAL, class_colours, error_colours, legend_of, with_legend
from topolora_hf.pictures.figures import FALSE, HIT, MISS
from topolora_hf.pictures.overlay import class_overlay, error_overlay, overlay

GREY = np.full((40, 60, 3), 200, np.uint8)


def square(*box: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    return mask


def test_overlay_is_opaque_on_the_outline_translucent_inside_and_absent_outside():
    mask = square(10, 30, 10, 50)
    picture = np.asarray(overlay(GREY, mask, colour=(0, 0, 0), opacity=0.25))
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    inside = square(11, 29, 11, 49)
    assert (picture[~mask] == 200).all()
    assert (picture[mask & ~inside] == 0).all()
    assert (picture[inside] == 150).all()


def test_overlay_draws_thin_structures_whole_and_opaque():
    line = square(20, 22, 0, 60) | square(0, 40, 30, 31)
    picture = np.asarray(overlay(GREY, line, colour=(1, 2, 3), opacity=0))
    assert (picture[line] == (1, 2, 3)).all() and (picture[~line] == 200).all()


def test_outline_grows_with_the_image():
    image, mask = np.zeros((20, 2000, 3), np.uint8), np.ones((20, 2000), bool)
    mask[:, :1000] = False
    picture = np.asarray(overlay(image, mask, colour=(255, 255, 255), opacity=0))
    assert picture[10, :, 0].nonzero()[0].tolist() == [1000, 1001, 1002, 1003]


def test_overlays_leave_their_input_alone_and_accept_empty_and_full_masks():
    image = GREY.copy()
    assert (np.asarray(overlay(image, np.zeros((40, 60), bool))) == 200).all()
    overlay(image, np.ones((40, 60), bool))
    error_overlay(image, np.ones((1, 40, 60), bool), np.zeros((1, 40, 60), bool))
    assert (image == 200).all()


def test_error_overlay_tells_hit_miss_and_false_apart():
    target, prediction = square(10, 20, 10, 30), square(10, 20, 20, 40)
    picture = np.asarray(error_overlay(GREY, prediction[None], target[None]))
    assert (picture[square(10, 20, 20, 30)] == HIT).all()
    assert (picture[square(10, 20, 10, 20)] == MISS).all()
    assert (picture[square(10, 20, 30, 40)] == FALSE).all()
    assert (picture[~(target | prediction)] == 100).all()


def test_error_overlay_marks_nothing_outside_the_field_of_view():
    valid_mask = square(0, 40, 0, 30)
    picture = np.asarray(error_overlay(GREY, np.ones((1, 40, 60), bool), np.zeros((1, 40, 60), bool), valid_mask))
    assert (picture[valid_mask] == FALSE).all()
    assert (np.ptp(picture[~valid_mask], axis=1) == 0).all() and picture[~valid_mask].max() < 100


def test_error_colours_differ_for_people_with_colour_vision_deficiency():
    for seen in seen_by_all([HIT, MISS, FALSE]):
        distances = [np.linalg.norm(seen[a] - seen[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert min(distances) > 0.35


def seen_by_all(colours):
    """Linear RGB as protanopes and deuteranopes see it (Machado et al. 2009, severity 1), and as others do."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "none": np.eye(3),
    }
    linear = (np.array(colours) / 255) ** 2.2
    return [np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2) for matrix in matrices.values()]


def test_classes_have_a_colour_each_white_where_they_meet_and_a_legend_below():
    masks = np.stack([square(5, 10, 5, 50), square(0, 40, 20, 25)])
    picture = class_overlay(GREY, masks, ("artery", "vein"))
    array = np.asarray(picture)
    artery, vein = class_colours(2)
    assert tuple(array[5, 5]) == artery and tuple(array[0, 20]) == vein and tuple(array[5, 22]) == SEVERAL
    assert (array[35, 5] == 200).all() and picture.width >= 60 and picture.height > 40 + 14
    below = array[40:].reshape(-1, 3)
    assert {artery, vein} <= set(map(tuple, below.tolist())) and (below < 60).all(1).sum() > 30  # its letters
    np.testing.assert_array_equal(class_overlay(GREY, masks[:1]), overlay(GREY, masks[0]))


@pytest.mark.parametrize("size", [(1, 1), (3, 4000), (4000, 3), (1000, 1500)])
def test_a_legend_is_read_at_any_size(size):
    names = legend_of([f"class number {k}" for k in range(5)], overlap=True)
    picture = with_legend(Image.new("RGB", size[::-1]), names)
    assert picture.width >= size[1] and picture.height > size[0] + 14
    strip = np.asarray(picture)[size[0] :]
    assert set(names.values()) <= set(map(tuple, np.unique(strip.reshape(-1, 3), axis=0).tolist()))
    assert (strip[:, -2:] == 255).all()  # nothing is cut at the right


def test_wrong_class_is_an_error_of_its_own_colour():
    target = np.stack([square(10, 20, 10, 30), square(10, 20, 30, 50)])
    for prediction, name in ((target[::-1], "other class"), (target, "hit"), (np.zeros_like(target), "missed")):
        picture = np.asarray(error_overlay(GREY, prediction, target))
        assert (picture[target.any(0)] == error_colours(2)[name]).all()


@pytest.mark.parametrize("colours", [[*class_colours(4), SEVERAL], [*error_colours(2).values()]])
def test_colours_of_a_few_classes_differ_for_people_with_colour_vision_deficiency(colours):
    for seen in seen_by_all(colours):
        assert min(np.linalg.norm(one - other) for n, one in enumerate(seen) for other in seen[:n]) > 0.2


def test_any_number_of_classes_has_colours_and_a_legend_names_twelve():
    assert len(set(class_colours(40))) == 40
    assert [*legend_of([str(k) for k in range(40)])][-2:] == ["11", "and 28 more"] and legend_of(["one"]) == {}


@pytest.mark.parametrize(
    "draw",
    [
        lambda i, m: overlay(i, m),
        lambda i, m: class_overlay(i, m[None]),
        lambda i, m: error_overlay(i, m[None], m[None]),
    ],
)
def test_overlays_refuse_what_does_not_fit(draw):
    mask = np.zeros((40, 60), bool)
    with pytest.raises(ValueError, match="image must be uint8"):
        draw(GREY / 255, mask)
    with pytest.raises(ValueError, match="image must be uint8"):
        draw(GREY[..., 0], mask)
    with pytest.raises(ValueError, match=r"has shape \(40, 59\), image has shape \(40, 60, 3\)"):
        draw(GREY, mask[:, :-1])
    with pytest.raises(ValueError, match="compare it with a threshold"):
        draw(GREY, np.full((40, 60), 0.4))


def test_overlay_refuses_an_opacity_in_percent():
    with pytest.raises(ValueError, match="opacity must lie in"):
        overlay(GREY, np.zeros((40, 60), bool), opacity=35)
