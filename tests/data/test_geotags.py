import numpy as np
import pytest
import tifffile

from topolora_hf.data.images.pictures import read_picture
from topolora_hf.inference.prediction import Prediction

PLACES = {
    "scale and tie point": [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0, 0, 0, 5e5, 4.6e6, 0), True)],
    "transform": [(34264, "d", 16, tuple(float(number) for number in range(16)), True)],
    "coordinate system": [
        (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True),
        (34736, "d", 2, (6378137.0, 298.25), True),
        (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
    ],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nodata", [None, "0"])
def test_a_mask_lies_where_its_image_lies(tmp_path, place, nodata):
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    image[:4, :7] = 0
    tags = PLACES[place] + ([(42113, "s", 0, nodata, True)] if nodata else [])
    tifffile.imwrite(tmp_path / "scene.tif", image, photometric="rgb", extratags=tags)
    picture = read_picture(tmp_path / "scene.tif")
    probability = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    prediction = Prediction(picture.rgb(), probability[None], (0.5,), inside=picture.valid, geotags=picture.geotags)
    with pytest.raises(FileExistsError, match="scene.tif was not written by"):
        prediction.save_mask(tmp_path / "scene.png")
    for _ in range(2):
        prediction.save_mask(tmp_path / "scene_mask.png")
    with tifffile.TiffFile(tmp_path / "scene_mask.tif") as file:
        page = file.pages[0]
        assert all(
            page.tags[code].value == (value if kind == "s" else tuple(value))
            for code, kind, _, value, _ in PLACES[place]
        )
        mask = page.asarray()
    inside = np.ones((20, 30), bool) if picture.valid is None else picture.valid
    np.testing.assert_array_equal(mask[inside], prediction.mask[inside] * 255)
    again = read_picture(tmp_path / "scene_mask.tif")
    assert again.valid is None if nodata is None else (again.valid == inside).all() and not inside[:4, :7].any()


def test_a_file_without_a_place_gives_one_mask(tmp_path):
    Prediction(np.zeros((4, 4, 3), np.uint8), np.ones((1, 4, 4), np.float32), (0.5,)).save_mask(tmp_path / "mask.png")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]
