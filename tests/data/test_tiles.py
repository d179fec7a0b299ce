import numpy as np
import pytest
import torch
from skimage.measure import label
from skimage.morphology import skeletonize
from torch.utils.data import DataLoader

from topolora_hf.data.augmentation import Augmentation
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.tiles import RowCache, TileDataset, largest_half_width
from topolora_hf.data.windows import IMAGE_MEAN, IMAGE_STD, Window, normalise, pad_outside, resize_mask


def make_row(row_id="a", height=90, width=70, seed=0):
    """The mask is where the image is bright red, so that a pair can be checked after any augmentation."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[20:60, 10:16] = mask[40:44, 10:67] = 1
    image[mask == 1] = (255, 30, 30)
    valid_mask = np.ones((height, width), bool)
    valid_mask[:, -10:] = False
    return {"id": row_id, "image": image, "mask": mask[None], "valid_mask": valid_mask}


ROWS = [make_row("a", seed=1), make_row("b", seed=2), make_row("c", height=64, width=64, seed=3)]


def same_items(first, second):
    return all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


@pytest.mark.parametrize("view", ["tiles", "full"])
@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_items_have_the_shapes_and_types_of_the_contract(view, augmentation):
    item = TileDataset(ROWS, 48, view=view, augmentation=augmentation)[0]
    assert item["pixel_values"].shape == (3, 48, 48) and item["pixel_values"].dtype == torch.float32
    assert item["labels"].shape == (1, 48, 48) and item["labels"].dtype == torch.uint8
    assert item["valid_mask"].shape == (48, 48) and item["valid_mask"].dtype == torch.bool
    assert item["skeleton"].shape == (1, 48, 48) and item["skeleton"].dtype == torch.bool
    assert item["id"] == "a"


@pytest.mark.parametrize("view", ["tiles", "full"])
def test_image_and_labels_stay_together_through_augmentation(view):
    dataset = TileDataset(ROWS, 64, view=view, tiles_per_image=15)
    agreement = []
    for number in range(len(dataset)):
        item = dataset[number]
        red_over_green = item["pixel_values"][0] * IMAGE_STD[0] - item["pixel_values"][1] * IMAGE_STD[1]
        bright = red_over_green > red_over_green[item["valid_mask"]].max() / 2
        labels = item["labels"][0].bool()
        if labels.sum() > 50:
            agreement.append(((bright & labels).sum() / (bright | labels)[item["valid_mask"] | labels].sum()).item())
    assert len(agreement) > 20 and np.mean(agreement) > 0.8


def test_crops_without_augmentation_are_pieces_of_the_image():
    dataset = TileDataset(ROWS[:1], 32, augmentation=None, tiles_per_image=10)
    whole = normalise(ROWS[0]["image"])
    corners = set()
    for number in range(10):
        tile = dataset[number]["pixel_values"]
        matches = [
            (y, x)
            for y in range(90 - 31)
            for x in range(70 - 31)
            if torch.equal(whole[:, y : y + 32, x : x + 32], tile)
        ]
        assert len(matches) == 1
        corners |= set(matches)
    assert len(corners) > 5


def test_view_full_without_augmentation_is_the_image():
    item = TileDataset(ROWS[2:], 64, view="full", augmentation=None)[0]
    assert torch.allclose(item["pixel_values"], normalise(ROWS[2]["image"]))
    assert (item["labels"].numpy() == ROWS[2]["mask"]).all()
    assert (item["valid_mask"].numpy() == ROWS[2]["valid_mask"]).all()


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_images_smaller_than_a_tile_are_padded_as_not_valid(augmentation):
    row = make_row() | {"valid_mask": np.ones((90, 70), bool)}
    item = TileDataset([row], 128, augmentation=augmentation)[0]
    outside = ~item["valid_mask"]
    if augmentation is None:
        assert (~outside).sum() == 90 * 70
    assert outside.any() and not item["labels"][:, outside].any()
    deep_outside = torch.nn.functional.max_pool2d((~outside)[None].float(), 5, 1, 2)[0] == 0
    assert (item["pixel_values"][:, deep_outside] == 0).all()


def test_crops_prefer_the_field_of_view():
    row = make_row(height=300, width=300)
    row["valid_mask"] = np.zeros((300, 300), bool)
    row["valid_mask"][100:200, 100:200] = True
    dataset = TileDataset([row], 32, augmentation=None, tiles_per_image=100)
    centred = np.mean([dataset[number]["valid_mask"][16, 16].item() for number in range(100)])
    assert centred > 0.5  # uniform crops would have 0.14


def test_tiles_do_not_depend_on_workers_order_or_global_randomness():
    dataset = TileDataset(ROWS, 40, tiles_per_image=2)
    torch.manual_seed(1)
    expected = [dataset[number] for number in range(6)]
    torch.manual_seed(2)
    again = TileDataset(ROWS, 40, tiles_per_image=2)
    assert all(same_items(expected[number], again[number]) for number in (5, 0, 3, 3, 1))
    loaded = list(DataLoader(again, batch_size=None, num_workers=2))
    assert all(same_items(one, other) for one, other in zip(expected, loaded, strict=True))


def test_persistent_workers_see_the_new_epoch():
    dataset = TileDataset(ROWS, 40)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append(list(loader))
    assert all(same_items(*pair) for pair in zip(epochs[0], epochs[2], strict=True))
    assert not any(same_items(*pair) for pair in zip(epochs[0], epochs[1], strict=True))
    dataset.set_epoch(1)
    assert same_items(dataset[0], epochs[1][0])


def test_skeleton_is_that_of_the_labels_inside_the_field_of_view():
    item = TileDataset(ROWS, 64, view="full")[0]
    skeleton = skeletonize(item["labels"][0].numpy() == 1)
    expected = skeleton & item["valid_mask"].numpy()
    assert expected.any() and (expected != skeleton).any() and (item["skeleton"][0].numpy() == expected).all()
    assert "skeleton" not in TileDataset(ROWS, 64, with_skeleton=False)[0]


@pytest.mark.parametrize("scale", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_resizing_keeps_one_pixel_lines_in_one_piece(scale):
    canvas = np.zeros((120, 120), bool)
    across = np.arange(5, 115)
    canvas[60, across] = canvas[across, 30] = canvas[across, across] = True
    canvas[np.round(90 + 10 * np.sin(across / 12)).astype(int), across] = True
    before = label(canvas, connectivity=2).max()
    resized = resize_mask(torch.from_numpy(canvas[None]), round(120 * scale))[0].numpy()
    assert label(resized, connectivity=2).max() == before
    assert 0.75 < skeletonize(resized).sum() / skeletonize(canvas).sum() / scale < 1.25


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25])
def test_resizing_keeps_the_area_of_compact_shapes(scale):
    disc = np.hypot(*(np.indices((100, 100)) - 50)) < 30
    resized = resize_mask(torch.from_numpy(disc[None]), round(100 * scale))
    assert resized.sum().item() == pytest.approx(disc.sum() * scale**2, rel=0.02)


def test_crop_and_pad_are_each_others_inverse():
    array = np.arange(20).reshape(4, 5)
    window = Window(top=-1, left=2, height=4, width=6)
    padded = pad_outside(torch.from_numpy(array[window.inside].copy()), window, 4, 5)
    expected = np.pad(array, ((1, 0), (0, 3)))[0:4, 2:8]
    assert (padded.numpy() == expected).all()


def test_normalise_centres_the_mean_colour():
    grey = np.broadcast_to(np.round(np.array(IMAGE_MEAN) * 255).astype(np.uint8), (4, 6, 3))
    normalised = normalise(grey)
    assert normalised.shape == (3, 4, 6) and normalised.abs().max() < 0.01


def test_cache_is_bounded_in_bytes_and_reads_recent_rows_once():
    reads = []

    class Rows:
        def __getitem__(self, number):
            reads.append(number)
            return {"id": str(number), "image": np.zeros(1000, np.uint8)}

    cache = RowCache(Rows(), limit_bytes=2500)
    for number in (0, 1, 0, 2, 0, 1):
        assert cache[number]["id"] == str(number)
    assert reads == [0, 1, 2, 1]  # 1 made room for 2, being the one not asked for the longest


def test_largest_half_width_is_the_widest_structures():
    thin, thick = np.zeros((2, 1, 50, 50), np.uint8)
    thin[0, 10:13, 5:45] = 1
    thick[0, 20:31, 5:45] = 1
    assert largest_half_width([{"mask": thin}]) == 2
    assert largest_half_width([{"mask": thin}, {"mask": thick}]) == 6
    assert largest_half_width([{"mask": np.concatenate([thick, thin])}]) == 6
    assert largest_half_width([{"mask": np.zeros((1, 50, 50), np.uint8)}]) == 0
    assert largest_half_width([{"mask": np.ones((1, 50, 50), np.uint8)}]) == 25
    assert largest_half_width([{"mask": np.ones((1, 200, 100), np.uint8)}], full_tile_size=40) == 20


def test_half_width_needs_no_image(make_pairs, tmp_path):
    rows = load_segmentation_data(str(make_pairs(tmp_path, 4)), validation_fraction=0)["train"]
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    assert largest_half_width(rows) == 1


@pytest.mark.parametrize("wrong", [{"view": "half"}, {"tile_size": 0}, {"tiles_per_image": 0}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TileDataset(ROWS, **({"tile_size": 32} | wrong))
    with pytest.raises(IndexError):
        TileDataset(ROWS, 32)[3]


def test_maps_of_classes_stay_together_and_have_skeletons_of_their_own():
    row = make_row(seed=4)
    bar = np.zeros_like(row["mask"][0])
    bar[30:45, 5:60] = 1
    row["mask"] = np.stack([row["mask"][0], bar])
    one = [TileDataset([row | {"mask": row["mask"][k : k + 1]}], 48, tiles_per_image=6) for k in range(2)]
    both = TileDataset([row], 48, tiles_per_image=6)
    for number in range(6):
        item = both[number]
        assert item["labels"].shape == item["skeleton"].shape == (2, 48, 48)
        for k in range(2):
            alone = one[k][number]
            assert torch.equal(item["pixel_values"], alone["pixel_values"])
            assert torch.equal(item["labels"][k], alone["labels"][0])
            assert torch.equal(item["skeleton"][k], alone["skeleton"][0])
