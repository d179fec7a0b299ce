import numpy as np
import pytest
import torch

from topolora_hf.data.augmentation import Augmentation
from topolora_hf.data.variations import add_noise, draw_zoom, jitter_colours, tile_generator, turn


def test_tiles_differ_in_every_part_of_their_key():
    keys = [(0, 0, "a", 0), (1, 0, "a", 0), (0, 1, "a", 0), (0, 0, "b", 0), (0, 0, "a", 1), (0, 0, "a0", 0)]
    assert len({tile_generator(*key).random() for key in keys}) == len(keys)
    assert tile_generator(3, 2, "x", 1).random() == tile_generator(3, 2, "x", 1).random()


def test_turn_moves_all_tensors_alike_and_reaches_all_eight_orientations():
    picture = torch.arange(9.0).reshape(3, 3)
    seen = set()
    for tile in range(100):
        image, mask = turn((picture[None], picture), Augmentation(), tile_generator(0, 0, "x", tile))
        assert torch.equal(image[0], mask)
        seen.add(tuple(mask.flatten().tolist()))
    assert len(seen) == 8


def test_turn_switched_off_changes_nothing():
    picture = torch.arange(9.0).reshape(3, 3)
    settings = Augmentation(flips=False, quarter_turns=False)
    for tile in range(20):
        assert torch.equal(turn((picture,), settings, tile_generator(0, 0, "x", tile))[0], picture)


def test_zoom_stays_in_its_range_and_is_balanced():
    zooms = np.array([draw_zoom(Augmentation(zoom=(0.5, 2.0)), tile_generator(0, 0, "x", tile)) for tile in range(400)])
    assert zooms.min() >= 0.5 and zooms.max() <= 2
    assert abs((zooms < 1).mean() - 0.5) < 0.08


def test_colours_change_and_stay_in_range():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = Augmentation(brightness=0.5, contrast=0.9, gamma=1.0, colour=0.5, noise=0.5)
    for tile in range(20):
        rng = tile_generator(0, 0, "x", tile)
        changed = add_noise(jitter_colours(image.clone(), settings, rng), settings, rng)
        assert changed.dtype == torch.float32 and 0 <= changed.min() and changed.max() <= 1
        assert not torch.allclose(changed, image, atol=0.02)


def test_colour_jitter_of_zero_is_the_identity():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    off = Augmentation(brightness=0, contrast=0, gamma=0, colour=0, noise=0)
    rng = tile_generator(0, 0, "x", 0)
    assert torch.allclose(add_noise(jitter_colours(image.clone(), off, rng), off, rng), image, atol=1e-6)


def test_contrast_and_brightness_follow_their_formula():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    settings = Augmentation(gamma=0, colour=0, contrast=0.2, brightness=0.1)
    rng = tile_generator(0, 0, "x", 0)
    rng.uniform(size=1)  # gamma's draw
    contrast, brightness = 1 + rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.1)
    expected = (image - image.mean()) * contrast + image.mean() + brightness
    assert torch.allclose(jitter_colours(image.clone(), settings, tile_generator(0, 0, "x", 0)), expected, atol=1e-6)


def test_noise_does_not_depend_on_the_global_random_state():
    image = torch.full((3, 8, 8), 0.5)
    results = []
    for state in (0, 1):
        torch.manual_seed(state)
        results.append(add_noise(image, Augmentation(), tile_generator(0, 0, "x", 0)))
    assert torch.equal(*results)


@pytest.mark.parametrize("wrong", [{"zoom": (1.2, 0.8)}, {"zoom": (0, 1)}, {"noise": -0.1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
