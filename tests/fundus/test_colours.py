"""The colours of fundus photographs."""

import numpy as np
import pytest

from topolora_hf.fundus.colours import FovColours, fov_statistics


def of(photographs):
    return FovColours.of_statistics([fov_statistics(*pair) for pair in photographs])


def photographs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    fov = np.hypot(*np.ogrid[-20:20, -20:20]) < 18
    return [
        ((rng.uniform(0, 1, (40, 40, 3)) * rng.uniform(60, 200, 3)).astype(np.uint8) * fov[..., None], fov)
        for _ in range(count)
    ]


def test_only_what_is_inside_the_field_of_fov_counts():
    image, fov = photographs(1)[0]
    inside = image[fov] / 255
    outside_changed = np.where(fov[..., None], image, 255).astype(np.uint8)
    np.testing.assert_allclose(fov_statistics(image, fov), [*inside.mean(0), *inside.std(0)], rtol=1e-4)
    np.testing.assert_array_equal(fov_statistics(outside_changed, fov), fov_statistics(image, fov))


def test_foreign_colours_become_typical_ones():
    colours = of(photographs(5))
    image, fov = photographs(6)[5]
    foreign = (image * [1.2, 0.6, 0.05]).astype(np.uint8)
    assert not np.allclose(fov_statistics(foreign, fov), colours.typical, atol=0.05)
    adapted = colours.adapt(foreign, fov_statistics(foreign, fov), fov)
    assert adapted.dtype == np.uint8
    np.testing.assert_allclose(fov_statistics(adapted, fov)[:3], colours.typical[:3], atol=0.02)
    np.testing.assert_array_equal(adapted[~fov], foreign[~fov])


@pytest.mark.parametrize(("factor", "is_foreign"), [(1.0, False), (0.85, False), (1.2, False), (0.75, True)])
def test_what_is_within_a_quarter_of_the_training_images_is_left_alone(factor, is_foreign):
    image, fov = photographs(1)[0]
    colours = of([(image, fov)])
    changed = (image * factor).astype(np.uint8)
    assert (colours.adapt(changed, fov_statistics(changed, fov), fov) is not changed) == is_foreign


def test_a_channel_without_any_light_has_no_colours_to_give_or_to_take():
    image, fov = photographs(1)[0]
    dark = image * np.array([1, 1, 0], np.uint8)
    colours = of([(dark, fov)])
    assert colours.adapt(dark, fov_statistics(dark, fov), fov) is dark
    lit = of([(image, fov)])
    adapted = lit.adapt(dark, fov_statistics(dark, fov), fov)
    assert (adapted[fov][:, 2] == round(lit.typical[2] * 255)).all()
