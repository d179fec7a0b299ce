"""The colours of retinal photographs."""

import numpy as np
import pytest

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.fundus.colours import DiscColours, disc_statistics


def photographs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    view = np.hypot(*np.ogrid[-20:20, -20:20]) < 18
    return [
        ((rng.uniform(0, 1, (40, 40, 3)) * rng.uniform(60, 200, 3)).astype(np.uint8) * view[..., None], view)
        for _ in range(count)
    ]


def test_only_what_is_inside_the_disc_counts():
    image, view = photographs(1)[0]
    inside = image[view] / 255
    outside_changed = np.where(view[..., None], image, 255).astype(np.uint8)
    np.testing.assert_allclose(disc_statistics(image, view), [*inside.mean(0), *inside.std(0)], rtol=1e-4)
    np.testing.assert_array_equal(disc_statistics(outside_changed, view), disc_statistics(image, view))


def test_foreign_colours_become_typical_ones():
    colours = DiscColours.of_photographs(photographs(5))
    image, view = photographs(6)[5]
    foreign = (image * [1.2, 0.6, 0.05]).astype(np.uint8)
    assert not np.allclose(disc_statistics(foreign, view), colours.typical, atol=0.05)
    adapted = colours.adapt(foreign, disc_statistics(foreign, view), view)
    assert adapted.dtype == np.uint8
    np.testing.assert_allclose(disc_statistics(adapted, view)[:3], colours.typical[:3], atol=0.02)
    np.testing.assert_array_equal(adapted[~view], foreign[~view])


@pytest.mark.parametrize(("factor", "is_foreign"), [(1.0, False), (0.85, False), (1.2, False), (0.75, True)])
def test_what_is_within_a_quarter_of_the_training_images_is_left_alone(factor, is_foreign):
    image, view = photographs(1)[0]
    colours = DiscColours.of_photographs([(image, view)])
    changed = (image * factor).astype(np.uint8)
    assert (colours.adapt(changed, disc_statistics(changed, view), view) is not changed) == is_foreign


def test_a_channel_without_any_light_has_no_colours_to_give_or_to_take():
    image, view = photographs(1)[0]
    dark = image * np.array([1, 1, 0], np.uint8)
    colours = DiscColours.of_photographs([(dark, view)])
    assert colours.adapt(dark, disc_statistics(dark, view), view) is dark
    lit = DiscColours.of_photographs([(image, view)])
    adapted = lit.adapt(dark, disc_statistics(dark, view), view)
    assert (adapted[view][:, 2] == round(lit.typical[2] * 255)).all()


def test_they_travel_with_the_adapter(tmp_path):
    settings = AdapterSettings("topolora_hf/tiny", disc_colours=DiscColours.of_photographs(photographs(3)))
    settings.save(tmp_path)
    assert AdapterSettings.from_pretrained(tmp_path) == settings
