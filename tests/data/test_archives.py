import io
import os
import stat
import tarfile
import zipfile

import pytest

from topolora_hf.data import archives
from topolora_hf.data.errors import DataError
from topolora_hf.data.loading import load_segmentation_data


@pytest.fixture
def folder(make_pairs, tmp_path):
    return make_pairs(tmp_path / "Roads", 5)


def pack(folder, archive, wrapped=True):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder.parent if wrapped else folder) for path in files}
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path, name in names.items():
                zipped.write(path, name)
    else:
        with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
            for path, name in names.items():
                tar.add(path, name)
    return archive


def add(archive, name, content=b"x"):
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def ids(data):
    return sorted(row["id"] for split in data.values() for row in split)


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [("roads.zip", True), ("roads.zip", False), ("roads.tar", False), ("roads.tar.gz", True), ("roads.tgz", True)],
)
def test_an_archive_reads_like_its_folder(folder, tmp_path, name, wrapped):
    archive = pack(folder, tmp_path / name, wrapped)
    assert ids(load_segmentation_data(str(archive))) == ids(load_segmentation_data(str(folder)))
    assert ids(load_segmentation_data("kvasir", str(archive), skip_bad=True)) == [f"{n:03d}" for n in range(5)]


def test_archives_inside_an_archive_stand_for_their_folders(make_pairs, tmp_path):
    for split, first in (("training", 0), ("test", 10)):
        make_pairs(tmp_path / "src" / split, 3, first=first)
        pack(tmp_path / "src" / split, tmp_path / f"{split}.zip", wrapped=False)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped:
        for split in ("training", "test"):
            zipped.write(tmp_path / f"{split}.zip", f"{split}.zip")
    data = load_segmentation_data(str(tmp_path / "all.zip"), validation_fraction=0)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 3, "test": 3}


def test_an_archive_is_unpacked_once_and_again_when_it_changes(folder, tmp_path):
    archive = pack(folder, tmp_path / "roads.zip")
    first = archives.unpack(archive)
    (first / "witness").write_text("")
    assert (archives.unpack(archive) / "witness").exists()
    os.utime(archive, (1, 1))
    assert not (archives.unpack(archive) / "witness").exists()


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "a/../../outside.png", "C:\\outside.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_cannot_leave_the_folder(tmp_path, name, kind):
    archive = tmp_path / f"evil.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr(name, "x")
    else:
        add(archive, name)
    with pytest.raises(DataError, match="outside"):
        archives.unpack(archive)
    assert not list(tmp_path.rglob("outside*")) and not list(archives.cache_folder().rglob("outside*"))


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("images")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as zipped:
        info = zipfile.ZipInfo("images")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc")
    with tarfile.open(tmp_path / "hard.tar", "w") as tar:
        info = tarfile.TarInfo("images")
        info.type, info.linkname = tarfile.LNKTYPE, "/etc/passwd"
        tar.addfile(info)
    for name in ("link.tar", "link.zip", "hard.tar"):
        with pytest.raises(DataError, match=r"holds a link.*\(images\)"):
            archives.unpack(tmp_path / name)


def test_bombs_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LEAST_LIMIT", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("images/zeros.bmp", bytes(2**23))
    with pytest.raises(DataError, match=r"bomb.zip \(.* bytes\) unpacks to over 1,048,576 bytes.*_MAX_UNPACKED_GIB"):
        archives.unpack(tmp_path / "bomb.zip")
    assert not any(path.is_file() for path in archives.cache_folder().rglob("*"))


def test_half_an_archive_is_refused_and_leaves_nothing(folder, tmp_path):
    for name in ("half.zip", "half.tar.gz"):
        archive = pack(folder, tmp_path / name)
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
        with pytest.raises(DataError, match=f"{name} is not a whole zip or tar archive"):
            archives.unpack(archive)
    assert not any(path.is_file() for path in archives.cache_folder().rglob("*"))


def test_the_limit_on_an_archive_can_be_raised_and_lowered(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LEAST_LIMIT", 2**20)
    with zipfile.ZipFile(tmp_path / "flat.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("images/zeros.bmp", bytes(2**22))
    monkeypatch.setenv("TOPOLORA_MAX_UNPACKED_GIB", "1")
    assert (archives.unpack(tmp_path / "flat.zip") / "images/zeros.bmp").stat().st_size == 2**22
    os.utime(tmp_path / "flat.zip", (1, 1))
    monkeypatch.setenv("TOPOLORA_MAX_UNPACKED_GIB", "much")
    with pytest.raises(DataError, match="TOPOLORA_MAX_UNPACKED_GIB must be a positive whole number, got 'much'"):
        archives.unpack(tmp_path / "flat.zip")


def test_a_bomb_inside_an_archive_is_refused_sooner(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LEAST_LIMIT", 2**21)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as zipped:
        zipped.writestr("padding.bin", bytes(2**20))  # alone it might unpack to a hundred times this
        zipped.writestr("images/zeros.bmp", bytes(2**23), zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("train.zip", inner.getvalue())
    with pytest.raises(DataError, match=r"train.zip \(.* bytes\) unpacks to over"):
        load_segmentation_data(str(tmp_path / "outer.zip"))
    assert not list(archives.cache_folder().rglob("zeros.bmp"))


def test_devices_and_pipes_are_refused(tmp_path):
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "device.tar", "w") as tar:
            info = tarfile.TarInfo("images/zero.png")
            info.type, info.devmajor, info.devminor = kind, 1, 5
            tar.addfile(info)
        with pytest.raises(DataError, match=r"device.tar holds a link or device \(images/zero.png\)"):
            archives.unpack(tmp_path / "device.tar")


def test_a_tar_whose_names_are_a_bomb_is_refused(tmp_path):
    with tarfile.open(tmp_path / "names.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "x" * 2**22}
        tar.addfile(info)
    with pytest.raises(DataError, match="(?s)names.tar.gz is not a whole zip or tar archive.*a header of 4,19"):
        archives.unpack(tmp_path / "names.tar.gz")


@pytest.mark.parametrize("names", [("a", "a/b"), ("n" * 300,), ("a/" * 3000 + "x",)])
def test_names_that_no_folder_can_hold_are_a_named_error(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as zipped:
        for name in names:
            zipped.writestr(name, "x")
    with pytest.raises(DataError, match="odd.zip cannot be unpacked"):
        archives.unpack(tmp_path / "odd.zip")
    assert not any(path.is_file() for path in archives.cache_folder().rglob("*"))


def test_names_of_any_bytes_are_unpacked_as_they_are(tmp_path):
    name = os.fsdecode(b"images/\xff '\";$(touch x)\n.png")
    add(tmp_path / "odd.tar", name)
    assert (archives.unpack(tmp_path / "odd.tar") / name).read_bytes() == b"x"
    assert not (tmp_path / "x").exists()
