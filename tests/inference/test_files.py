import pytest

from topolora_hf.data.errors import DataError
from topolora_hf.inference.files import find_images


def test_find_images_takes_files_folders_and_globs_each_image_once(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "._a.JPG", "deep/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()

    def names(*patterns):
        return [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path / p for p in patterns])]

    assert names(".") == ["a.JPG", "b.png"]
    assert names("*.png", ".", "b.png") == ["b.png", "a.JPG"]
    assert names("**/*") == ["a.JPG", "b.png", "deep/c.tif"]
    for nothing in ("absent.png", "*.bmp", "folder.png"):
        with pytest.raises(DataError, match=f"no images at .*{nothing.replace('*', '.')}"):
            names(nothing)
