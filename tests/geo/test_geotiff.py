import resource

import numpy as np
import pytest
import rasterio

from topolora_hf.geo.geotiff import write_geotiff


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_bands_names_colours_and_nodata_are_read_again(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 3, (2, 600, 530)).astype(kind)
    values[:, :5] = nodata = np.nan if kind == "float32" else 255
    write_geotiff(tmp_path / "out.tif", values, nodata=nodata, names=["artery", "vein"])
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.descriptions == ("artery", "vein")
        assert (dataset.read_masks(1) == 0).sum() == 5 * 530
    write_geotiff(tmp_path / "map.tif", values[0].astype(np.uint8), colours={1: (255, 0, 0)})
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.colormap(1)[1] == (255, 0, 0, 255)


def test_the_file_of_another_program_is_not_replaced(tmp_path, write_raster, scene):
    path = write_raster(tmp_path / "scene.tif", scene)
    (tmp_path / "text.tif").write_text("notes")
    for taken in (path, tmp_path / "text.tif"):
        content = taken.read_bytes()
        with pytest.raises(FileExistsError, match=f"{taken.name} was not written by topolora_hf"):
            write_geotiff(taken, scene)
        assert taken.read_bytes() == content
    for _ in range(2):
        write_geotiff(tmp_path / "out.tif", scene)


@pytest.mark.parametrize("bytes_left", [0, 100, 5000, 15000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, scene, bytes_left):
    own = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, own[1]))
    try:
        with pytest.raises(OSError, match="out.tif"):
            write_geotiff(tmp_path / "out.tif", scene)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, own)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to_is_an_error(tmp_path, scene):
    with pytest.raises(OSError, match="out.tif"):
        write_geotiff(tmp_path / "absent" / "out.tif", scene)
