import subprocess
import sys

import numpy as np
import pytest

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
    # Linear RGB as protanopes and deuteranopes see it (Machado et al. 2009, severity 1).
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "none": np.eye(3),
    }
    colours = (np.array([HIT, MISS, FALSE]) / 255) ** 2.2
    for matrix in matrices.values():
        seen = np.clip(colours @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        distances = [np.linalg.norm(seen[a] - seen[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert min(distances) > 0.35


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


def test_overlays_and_names_of_figures_import_no_matplotlib():
    code = (
        "import sys, topolora_hf.pictures.overlay, topolora_hf.pictures.samples;"
        "import topolora_hf.pictures.plots; print(sorted({'matplotlib', 'torch', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
