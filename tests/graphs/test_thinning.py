import numpy as np
import pytest
from skimage.morphology import thin as thin_of_skimage

from topolora_hf.graphs import thin


@pytest.mark.parametrize("seed", range(40))
def test_the_skeleton_is_that_of_scikit_image(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 150, 2)) < generator.uniform(0.3, 1)
    assert np.array_equal(thin(mask)[0], thin_of_skimage(mask))


@pytest.mark.parametrize("width", [1, 63, 64, 65, 128])
def test_rows_of_whole_words_and_one_more(width):
    for mask in (np.ones((1, width), bool), np.ones((width, 1), bool), np.ones((30, width), bool)):
        assert np.array_equal(thin(mask)[0], thin_of_skimage(mask))


def test_a_pixel_depends_on_no_more_around_it_than_it_says():
    mask = np.random.default_rng(0).random((200, 90)) < 0.8
    whole, rounds = thin(mask)
    part, _ = thin(mask[40:180])
    assert rounds < 60
    assert np.array_equal(part[rounds:-rounds], whole[40 + rounds : 180 - rounds])


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="bool .H, W.; got uint8"):
        thin(np.zeros((4, 4), np.uint8))
