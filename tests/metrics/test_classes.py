"""From probability maps of several classes to masks and to one map of labels."""

import numpy as np
import pytest

from topolora_hf.metrics.classes import any_class, class_masks, label_map, label_values

MAPS = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32) / 2


def test_overlapping_classes_are_each_where_their_own_threshold_is_reached():
    masks = class_masks(MAPS, (0.1, 0.2, 0.4), exclusive=False)
    for mask, probability, threshold in zip(masks, MAPS, (0.1, 0.2, 0.4), strict=True):
        np.testing.assert_array_equal(mask, probability >= threshold)
    np.testing.assert_array_equal(any_class(MAPS, exclusive=False), np.maximum(np.maximum(*MAPS[:2]), MAPS[2]))


def test_of_exclusive_classes_the_likeliest_is_taken_where_any_class_is_likely_enough():
    limits = (0.3, 0.6, 0.9)
    masks = class_masks(MAPS, limits, exclusive=True)
    for y, x in np.ndindex(20, 30):
        of_pixel = MAPS[:, y, x]
        best = int(of_pixel.argmax())
        expected = np.arange(3) == best if of_pixel.sum() >= limits[best] else np.zeros(3, bool)
        np.testing.assert_array_equal(masks[:, y, x], expected)
    assert masks.any() and not masks.any(0).all() and masks.sum(0).max() == 1
    np.testing.assert_allclose(any_class(MAPS, exclusive=True), np.minimum(MAPS.sum(0), 1))


def test_with_one_class_both_readings_are_the_threshold():
    for exclusive in (False, True):
        np.testing.assert_array_equal(class_masks(MAPS[:1], (0.25,), exclusive), MAPS[:1] >= 0.25)
        np.testing.assert_array_equal(any_class(MAPS[:1], exclusive), MAPS[0])


def test_in_a_label_map_every_set_of_overlapping_classes_has_its_own_value():
    masks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, 2, 4).astype(bool)
    values = label_values("abc", exclusive=False)
    assert values == {(0,): 1, (1,): 2, (2,): 3, (0, 1): 4, (0, 2): 5, (1, 2): 6, (0, 1, 2): 7}
    found = label_map(masks, values)
    assert found.dtype == np.uint8
    for y, x in np.ndindex(2, 4):
        there = tuple(np.flatnonzero(masks[:, y, x]).tolist())
        assert found[y, x] == (values[there] if there else 0)


def test_in_a_label_map_of_exclusive_classes_values_count_from_1():
    masks = class_masks(MAPS, (0.3, 0.3, 0.3), exclusive=True)
    found = label_map(masks, label_values("abc", exclusive=True))
    for place in range(3):
        np.testing.assert_array_equal(found == place + 1, masks[place])
    lines = np.array([[[True, True, False]], [[False, True, True]], [[False, False, False]]])  # meet in a pixel
    assert label_map(lines, label_values("abc", exclusive=True)).tolist() == [[1, 1, 2]]
    many = np.eye(254, dtype=bool)[:, None]
    np.testing.assert_array_equal(label_map(many, label_values(["x"] * 254, exclusive=True))[0], np.arange(1, 255))


@pytest.mark.parametrize("count, exclusive", [(255, True), (8, False), (1000, False)])
def test_more_classes_than_a_label_map_holds_are_refused(count, exclusive):
    with pytest.raises(ValueError, match=f"{count} .* classes do not fit .* at most 254 exclusive or 7 overlapping"):
        label_values(["x"] * count, exclusive)
    assert label_values(["x"] * 7, exclusive=False)[tuple(range(7))] == 127


def test_thresholds_of_another_number_than_the_classes_are_refused():
    with pytest.raises(ValueError, match="2 thresholds do not fit 3 classes"):
        class_masks(MAPS, (0.5, 0.5), exclusive=False)
