import numpy as np
import pytest

from topolora_hf.fundus.colours import FovColours, fov_statistics
from topolora_hf.fundus.field_of_view import estimate_field_of_view
from topolora_hf.fundus.normaliser import FieldOfView, FundusNormaliser, fit_fundus


def photograph(diameter: int, side: int = 120) -> np.ndarray:
    """A textured bright circle on a dark ground."""
    rows, columns = np.ogrid[:side, :side]
    inside = np.hypot(rows - side / 2, columns - side / 2) < diameter / 2
    noise = np.random.default_rng(0).integers(120, 200, (side, side, 3), dtype=np.uint8)
    return noise * inside[..., None].astype(np.uint8)


def with_field_of_view(image):
    return image, estimate_field_of_view(image)


def test_an_image_is_brought_to_the_training_scale_and_colours():
    diameter, colours = fit_fundus(with_field_of_view(photograph(size)) for size in (70, 70, 72))
    assert diameter == pytest.approx(70, abs=1.5)
    foreign = (photograph(100) * [0.5, 0.8, 0.1]).astype(np.uint8)
    image, scale, fov = FundusNormaliser(diameter, colours).prepare(foreign)
    assert scale == pytest.approx(0.7, abs=0.02) and fov.diameter == pytest.approx(100, abs=2)
    np.testing.assert_allclose(fov_statistics(image, fov.mask())[:3], colours.typical[:3], atol=0.02)


def test_switches_are_obeyed():
    _, colours = fit_fundus([with_field_of_view(photograph(70))])
    foreign = (photograph(100) * [0.5, 0.8, 0.1]).astype(np.uint8)
    image, scale, _ = FundusNormaliser(50.0, colours, scale=3.0, match_colours=False).prepare(foreign)
    assert image is foreign and scale == 3.0
    assert FundusNormaliser(50.0).within_fov and FundusNormaliser(None, colours).within_fov
    assert not FundusNormaliser().within_fov and not FundusNormaliser(50.0, within_fov=False).within_fov


def test_other_images_are_left_alone_and_cost_no_estimate(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    image, scale, fov = FundusNormaliser(50.0, FovColours((0.0,) * 6, (0.0,) * 6, (0.1,) * 6)).prepare(noise)
    assert image is noise and scale == 1 and fov.inside().all()
    monkeypatch.setattr(FieldOfView, "_mask", property(lambda _: pytest.fail("estimated")))
    assert FundusNormaliser().prepare(noise)[:2] == (noise, 1.0)


@pytest.mark.parametrize(("sizes", "has_scale"), [((70, 100), True), ((70, 70), False)])
def test_sets_of_several_scales_and_drawings_have_colours_alone(sizes, has_scale):
    diameter, colours = fit_fundus((with_field_of_view(photograph(size)) for size in sizes), has_scale)
    assert diameter is None and colours is not None


def test_a_set_without_a_round_field_of_view_is_no_fundus_set():
    everywhere = np.ones((40, 40), np.uint8)
    assert fit_fundus([(np.zeros((40, 40, 3), np.uint8), everywhere)]) == (None, None)


@pytest.mark.parametrize("side", [120, 1800])
def test_inside_leaves_out_the_rim_at_every_size(side):
    rows, columns = np.ogrid[:side, :side]
    from_centre = np.hypot(rows - side / 2, columns - side / 2) / side
    inside = FieldOfView(photograph(round(0.8 * side), side)).inside()
    assert inside.shape == (side, side)
    assert inside[from_centre < 0.385].all() and not inside[from_centre > 0.4].any()
