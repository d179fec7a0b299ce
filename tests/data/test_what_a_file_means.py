"""The table of docs/reference/data-formats.md, row by row: files of each kind, and what is read from them."""

import json
import os
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import tifffile
from PIL import Image

from topolora_hf.data.errors import DataError
from topolora_hf.data.images.masks import read_mask
from topolora_hf.data.images.pictures import decode_image, read_picture
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.data.mask_rule import MaskRule
from topolora_hf.data.records import Layout

PAGE = Path(__file__).parents[2] / "docs/reference/data-formats.md"
LINE = np.zeros((40, 48), bool)
LINE[10:13, 4:40], LINE[20:35, 30:33] = True, True
OTHER = np.zeros_like(LINE)
OTHER[25:28, 4:20] = True
SOFT = np.asarray(
    Image.fromarray(LINE * np.uint8(255)).rotate(30).resize((48, 40), Image.Resampling.BICUBIC, (3, 3, 41, 35))
)


def grey(*values, dtype=np.uint8):
    """An image of levels: the ground, the line, and the other structure."""
    ground, line, other = (*values, values[0])[:3]
    return np.where(LINE, line, np.where(OTHER, other, ground)).astype(dtype)


def colours(*names, alpha=None):
    rgb = np.array([[int(name[at : at + 2], 16) for at in (0, 2, 4)] for name in names], np.uint8)
    picture = rgb[grey(*range(len(names)))]
    return picture if alpha is None else np.dstack([picture, np.where(LINE, 255, alpha).astype(np.uint8)])


def palette(*names):
    picture = Image.fromarray(grey(*range(len(names))), mode="P")
    picture.putpalette([int(name[at : at + 2], 16) for name in names for at in (0, 2, 4)])
    return picture


def saved(picture, path):
    if path.suffix == ".npy":
        np.save(path, picture)
    else:
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path)
    return path


def tiff(path, picture, **options):
    tifffile.imwrite(path, picture, **options)
    return path


def make_set(root, masks, image="images/{}.png", mask="masks/{}.png"):
    for number, picture in enumerate(masks):
        path = root / image.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        saved(np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8), path)
        if picture is not None:
            (root / mask.format(number)).parent.mkdir(parents=True, exist_ok=True)
            saved(picture, root / mask.format(number))
    return root


def rows_of(root, **options):
    data = load_segmentation_data(str(root), validation_fraction=0, **options)
    return sorted((row for split in data.values() for row in split), key=lambda row: row["id"]), " ".join(data.remarks)


def refuses(call, *texts):
    with pytest.raises(DataError) as caught:
        call()
    for text in texts:
        assert text in str(caught.value)


def reads(path, expected, ignored=None, **rule):
    reading = read_mask(path, rule=MaskRule(**rule))
    np.testing.assert_array_equal(reading.mask[0] == 1, expected)
    np.testing.assert_array_equal(np.zeros_like(LINE) if reading.ignored is None else reading.ignored,
                                  np.zeros_like(LINE) if ignored is None else ignored)  # fmt: skip


def two_levels(folder):
    for number, picture in enumerate([LINE, grey(0, 1), grey(0, 255), grey(0, 7, dtype=np.uint16), grey(4, 252)]):
        reads(saved(picture, folder / f"{number}.png"), LINE)
        reads(folder / f"{number}.png", ~LINE, inverted=True)
    reads(saved(grey(0, 0.25, dtype=float), folder / "a.npy"), LINE)
    reads(saved(grey(0, 1, dtype=np.int64), folder / "b.npy"), LINE)


def several_levels(folder):
    instances = np.repeat(np.repeat(np.arange(0, 240, 8), 8).reshape(5, 48), 8, axis=0).astype(np.uint8)
    for number, picture in enumerate([grey(0, 1, 255), grey(0, 1, 2), grey(0, 128, 255), instances, instances * 200]):
        path = saved(picture, folder / f"{number}.png")
        refuses(lambda path=path: read_mask(path), path.name, "--mask_values", "--ignore")
        reads(path, picture > 0, values=("all",))
    reads(folder / "0.png", LINE, OTHER, values=("1",), ignore=("255",))
    reads(folder / "0.png", LINE, OTHER, ignore=("255",))
    reads(folder / "1.png", LINE | OTHER, values=("1-2",))
    assert read_mask(folder / "1.png", rule=MaskRule(values=("1",))).unnamed == {"2": OTHER.mean()}


def soft(folder):
    reads(saved(SOFT, folder / "a.png"), SOFT >= 128)
    reads(saved(SOFT / np.float32(255), folder / "b.npy"), SOFT / np.float32(255) >= 0.5)
    reads(saved(SOFT.astype(np.uint16) * 257, folder / "c.png"), SOFT >= 128)
    reads(folder / "a.png", SOFT >= 50, values=("50-255",))
    Image.fromarray(grey(0, 255)).save(folder / "d.jpg", quality=80)
    assert (read_mask(folder / "d.jpg").mask[0] == LINE).mean() > 0.99


def one_colour(folder):
    pictures = [colours("000000", "ff0000"), palette("000000", "800000"), palette("ff0000", "000000", "ff0000")]
    for number, picture in enumerate([*pictures, palette("040204", "fcfefc"), palette("ffffff", "000000", "ffffff")]):
        path = saved(picture, folder / f"{number}.png")
        expected = LINE if number in (0, 1, 3) else ~LINE
        reads(path, expected)
        reads(path, ~expected, inverted=True)
        saved(picture, folder / f"{number}.gif")
        reads(folder / f"{number}.gif", expected)
    reads(saved((SOFT[..., None] * np.array([0.0, 1, 0.5])).astype(np.uint8), folder / "soft.png"), SOFT >= 128)


def several_colours(folder):
    for number, names in enumerate([("000000", "ff0000", "0000ff"), ("000000", "800000", "c00000"),
                                    ("ffffff", "ff0000"), ("000000", "ff0000", "ff6464")]):  # fmt: skip
        for kind in (colours, palette):
            path = saved(kind(*names), folder / f"{number}{kind.__name__}.png")
            refuses(lambda path=path: read_mask(path), path.name, f"#{names[1]}", "--mask_values")
            reads(path, LINE, values=(f"#{names[1]}",))
    reads(folder / "0palette.png", OTHER, LINE, values=("2",), ignore=("1",))
    Image.fromarray(colours("000000", "ff0000", "0000ff")).resize((192, 160), 0).save(folder / "a.jpg", quality=95)
    refuses(lambda: read_mask(folder / "a.jpg"), "several colours")


def layer(folder):
    for number, picture in enumerate([colours("000000", "000000", alpha=0), colours("ffffff", "ffffff", alpha=0),
                                      colours("000000", "ff0000", alpha=0)]):  # fmt: skip
        reads(saved(picture, folder / f"{number}.png"), LINE)
    Image.fromarray(colours("000000", "000000", alpha=0)).save(folder / "a.webp", lossless=True)
    reads(folder / "a.webp", LINE)


def black_and_transparent(folder):
    picture = colours("000000", "000000", "ffffff", alpha=255)
    picture[:5, :, 3] = 0
    path, hidden = saved(picture, folder / "a.png"), picture[..., 3] == 0
    refuses(lambda: read_mask(path), "black in some places and transparent", '--ignore "transparent"')
    reads(path, OTHER, hidden, ignore=("transparent",))
    reads(path, ~OTHER & ~hidden, values=("#000000",))


def negative(folder):
    for number, dtype in enumerate((np.int8, np.int32, np.float32)):
        path = tiff(folder / f"{number}.tif", grey(0, 1, -1, dtype=dtype))
        refuses(lambda path=path: read_mask(path), path.name, "negative", '--ignore "-1"')
        reads(path, LINE, OTHER, ignore=("-1",))


def no_number(folder):
    reads(saved(grey(0, 1, np.nan, dtype=np.float32), folder / "a.npy"), LINE, OTHER)
    nodata = {"extratags": [(42113, "s", 0, "255", True)]}
    reads(tiff(folder / "b.tif", grey(0, 1, 255), **nodata), LINE, OTHER)
    nodata = {"extratags": [(42113, "s", 0, "0", True)]}
    reads(tiff(folder / "c.tif", grey(0, 1), **nodata), LINE)


def min_is_white(folder):
    for number, picture in enumerate([grey(0, 255), grey(0, 255) > 0]):
        path = tiff(folder / f"{number}.tif", picture, photometric="miniswhite")
        refuses(lambda path=path: read_mask(path), path.name, "MinIsWhite", "--invert_masks")
        reads(path, LINE, inverted=True)
        reads(path, ~LINE, values=("255",))


def different_values(folder):
    make_set(folder, [grey(0, 1), grey(0, 1), grey(0, 255), grey(0, 255)])
    refuses(lambda: rows_of(folder), "1 in 2 (masks/0.png, masks/1.png)", "255 in 2", "--mask_values all")
    rows, _ = rows_of(folder, mask_rule=MaskRule(values=("1",), ignore=("255",)))
    assert [int(row["mask"].sum()) for row in rows] == [LINE.sum(), LINE.sum(), 0, 0]
    assert rows[0]["valid_mask"].all() and (rows[3]["valid_mask"] == ~LINE).all()
    rows, _ = rows_of(folder, mask_rule=MaskRule(values=("all",)))
    assert all((row["mask"] == LINE).all() for row in rows)


def mostly_bright(folder):
    make_set(folder, [grey(255, 0)] * 4)
    assert "4 of 4 masks are more foreground" in rows_of(folder)[1] and "--invert_masks" in rows_of(folder)[1]
    assert all((row["mask"] == LINE).all() for row in rows_of(folder, mask_rule=MaskRule(inverted=True))[0])


def several_masks(folder):
    both = [grey(0, 255)] * 4
    flat = make_set(folder / "flat", both, "a {}.png", "a {}_mask.png")
    saved(OTHER * np.uint8(255), flat / "a 0_mask_1.png")
    nested = make_set(folder / "nested", both, mask="masks/{}/1.png")
    saved(OTHER * np.uint8(255), nested / "masks/0/x.png")
    apart = make_set(folder / "apart", both, "{0}/images/{0}.png", "{}/masks/a.png")
    saved(OTHER * np.uint8(255), apart / "0/masks/b.png")
    for root in (flat, nested, apart):
        rows, remarks = rows_of(root)
        assert (rows[0]["mask"] == (LINE | OTHER)).all() and (rows[1]["mask"] == LINE).all() and "united" in remarks


def without_mask(folder):
    make_set(folder, [grey(0, 255)] * 4 + [None] * 5)
    refuses(
        lambda: rows_of(folder), "no mask (5): images/4.png, images/5.png, images/6.png and 2 more", "--missing_mask"
    )
    rows, remarks = rows_of(folder, missing_mask="empty")
    assert [bool(row["mask"].any()) for row in rows] == [True] * 4 + [False] * 5 and rows[8]["valid_mask"].all()
    assert "5 masks have no foreground" in remarks
    (folder / "t.csv").write_text(
        "image,mask\n" + "".join(f"images/{n}.png,{f'masks/{n}.png' * (n < 4)}\n" for n in range(9))
    )
    assert len(rows_of(folder / "t.csv", missing_mask="empty")[0]) == 9


def outlines(folder):
    expected = np.zeros_like(LINE)
    expected[4:12, 4:30] = True
    corners = [[4.0, 4.0], [30.0, 4.0], [30.0, 12.0], [4.0, 12.0]]
    for kind in ("coco", "labelme", "yolo"):
        root = make_set(folder / kind, [None] * 4)
        if kind == "coco":
            names = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 48} for n in range(4)]
            drawn = [{"image_id": n, "category_id": 7, "segmentation": [sum(corners, [])]} for n in range(3)]
            text = json.dumps({"images": names, "annotations": drawn, "categories": [{"id": 7, "name": "crack"}]})
            (root / "instances.json").write_text(text)
        for number in range(4):
            if kind == "labelme":
                shapes = [{"label": "crack", "shape_type": "polygon", "points": corners}] * (number < 3)
                (root / f"images/{number}.json").write_text(json.dumps({"imagePath": "x.png", "shapes": shapes}))
            if kind == "yolo":
                (root / "labels").mkdir(exist_ok=True)
                line = " ".join(str(value) for x, y in corners for value in (x / 48, y / 40))
                (root / f"labels/{number}.txt").write_text(f"0 {line}\n" * (number < 3))
        if kind == "coco":  # an image without annotation may be one that nobody looked at
            refuses(lambda root=root: rows_of(root), "no mask (1): images/3.png", "--missing_mask empty")
        rows, remarks = rows_of(root, missing_mask="empty")
        assert "outlines" in remarks and [bool(row["mask"].any()) for row in rows] == [True] * 3 + [False]
        assert (rows[0]["mask"] == expected).all()


def mask_of_two(folder):
    root = make_set(folder, [grey(0, 255)] * 4)
    os.rename(root / "images/0.png", root / "images/0_sat.png")
    assert len(rows_of(root)[0]) == 4
    saved(np.zeros((40, 48, 3), np.uint8), root / "images/0_rgb.png")
    refuses(lambda: rows_of(root), "0.png could be the mask of", "0_rgb.png", "0_sat.png", "--layout")


def labels_in_parts(folder):
    root = make_set(folder, [None] * 4)
    for part in ("train", "val"):
        (root / f"labels/{part}").mkdir(parents=True)
        (root / f"images/{part}").mkdir()
    for number in range(4):
        part = "val" if number == 3 else "train"
        os.rename(root / f"images/{number}.png", root / f"images/{part}/{number}.png")
        (root / f"labels/{part}/{number}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.2\n")
    assert len(rows_of(root)[0]) == 4


def labels_of_nothing(folder):
    root = make_set(folder, [None] * 4)
    (root / "labels").mkdir()
    (root / "labels/other.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.2\n")
    refuses(lambda: rows_of(root), "its label files name no image", "other.txt")


def several_labels(folder):
    root = make_set(folder, [None] * 4)
    (root / "labels").mkdir()
    for number in range(3):
        (root / f"labels/{number}.txt").write_text(
            "0 0.1 0.1 0.9 0.1 0.9 0.2\n" + "1 0.1 0.8 0.9 0.8 0.9 0.9\n" * (number < 1)
        )
    refuses(lambda: rows_of(root), "0 (3 shapes), 1 (1 shapes)", "--classes 0 1 makes each", '"foreground=0,1"')

    refuses(lambda: rows_of(root, classes=["crack=0"]), "labels that no class names: 1 (1 shapes)", "background=LABEL")
    line = {"label": "crack", "shape_type": "line", "points": [[1, 1], [9, 9]]}
    (root / "images/3.json").write_text(json.dumps({"imagePath": "3.png", "shapes": [line]}))
    refuses(lambda: rows_of(root), "3.json", "shape of type 'line'")


def unlabelled(folder):
    root = make_set(folder, [None] * 4)
    pictures = "".join(f'<image name="{n}.png" width="48" height="40">{{}}</image>' for n in range(4))
    box = '<box label="crack" xtl="4" ytl="4" xbr="30" ybr="12"/>'
    (root / "annotations.xml").write_text(f"<annotations>{pictures.format(box, box, box, '')}</annotations>")
    refuses(lambda: rows_of(root), "no mask (1): images/3.png", "--missing_mask empty")
    rows, _ = rows_of(root, missing_mask="empty")
    assert [int(row["mask"].sum()) for row in rows] == [8 * 26] * 3 + [0]


def on_the_map(path, picture, left=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.atleast_3d(picture).transpose(2, 0, 1)
    place = {"transform": rasterio.Affine(1, 0, left, 0, -1, 40), "crs": "EPSG:32633"}
    form = {"height": 40, "width": 48, "count": len(bands), "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **form, **place) as dataset:
        dataset.write(bands)


def other_place(folder):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        on_the_map(folder / f"images/{number}.tif", pixels)
        on_the_map(folder / f"masks/{number}.tif", grey(0, 255), left=5.0 * (number == 1))
    refuses(lambda: rows_of(folder), "different places of the map (1): images/1.tif")


def lines_of_a_gis(folder):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        on_the_map(folder / f"images/{number}.tif", pixels)
    road = shapely.to_wkb(shapely.LineString([(0, 20.0), (48, 20.0)]))
    pyogrio.raw.write(
        folder / "roads.gpkg", np.array([road], object), [], [], crs="EPSG:32633", geometry_type="LineString"
    )
    refuses(lambda: rows_of(folder, layout=Layout(mask_dir="roads.gpkg")), "line_width=6m", "line_width=3px")
    rows, _ = rows_of(folder, layout=Layout(mask_dir="roads.gpkg", line_width="4px"))
    assert rows[0]["mask"][0, 18:22].all() and rows[0]["mask"].sum() == 4 * 48


def tables(folder):
    root = make_set(folder, [grey(0, 255)] * 4, "Gefäße/{}.png")
    pairs = [("image", " mask "), *((f"Gefäße/{n}.png", f"masks/{n}.png") for n in range(4))]
    text = "".join(f"{image};{mask}\n" for image, mask in pairs)
    for written in (
        text.replace("/", "\\").encode(),
        ("sep=;\r\n" + text.replace("\n", "\r\n")).encode("utf-8-sig"),
        text.replace(";", "\t").encode("utf-16"),
        text.replace("\n", "\r").encode(),
        text.encode("cp1252"),
    ):
        (root / "t.txt").write_bytes(written)
        rows, remarks = rows_of(root / "t.txt")
        assert len(rows) == 4 and ("Windows-1252" in remarks) == (b"\xdf" in written and b"\xff" not in written)


def eight_bits(folder):
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert (decode_image(saved(picture, folder / "a.png")) == picture).all()


def wide(folder):
    for number, dtype in enumerate((np.uint16, np.float32, np.int32)):
        image = decode_image(tiff(folder / f"{number}.tif", np.linspace(100, 3000, 900).reshape(30, 30).astype(dtype)))
        assert image.min() == 0 and image.max() == 255 and 120 < np.median(image) < 135


def own_range(folder):
    for name, top, dtype in (("a.tif", 0.5, np.float32), ("b.tif", 128, np.uint16), ("c.tif", 128, np.int32)):
        picture = np.linspace(0, top, 900).reshape(30, 30).astype(dtype)
        assert 126 <= decode_image(tiff(folder / name, picture)).max() <= 128


def image_without_data(folder):
    picture = np.linspace(0.2, 1, 900, dtype=np.float32).reshape(30, 30)
    picture[:3] = np.nan
    found = read_picture(tiff(folder / "a.tif", picture))
    assert not found.valid[:3].any() and found.valid[3:].all() and not found.rgb()[:3].any()


def many_bands(folder):
    path = tiff(
        folder / "a.tif",
        np.arange(900 * 5, dtype=np.uint8).reshape(30, 30, 5),
        planarconfig="contig",
        photometric="minisblack",
    )
    refuses(lambda: decode_image(path), "--bands")
    assert (decode_image(path, bands=(4, 3, 2))[0, 0] == (3, 2, 1)).all()


def orientation(folder):
    exif = Image.Exif()
    exif[274] = 6
    for name, shape in (("oblong", (40, 48)), ("square", (40, 40))):
        root = make_set(folder / name, [grey(0, 255)[: shape[0], : shape[1]]] * 4)
        for number in range(4):
            picture = np.random.default_rng(number).integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / f"images/{number}.png", exif=exif)
    refuses(lambda: rows_of(folder / "oblong"), "images/0.png is 40x48, masks/0.png is 48x40", "EXIF) is 6")
    assert "4 images are turned" in rows_of(folder / "square")[1]


def links(folder):
    root = make_set(folder / "set", [grey(0, 255)] * 4)
    for part in ("images", "masks"):
        os.rename(root / part, folder / part)
        (root / part).mkdir()
        (root / part / "site").symlink_to(folder / part)
        (folder / part / "back").symlink_to(root)
    assert len(rows_of(root)[0]) == 4


ROWS = [two_levels, several_levels, soft, one_colour, several_colours, layer, black_and_transparent, negative,
        no_number, min_is_white, different_values, mostly_bright, several_masks, mask_of_two, without_mask,
        outlines, labels_in_parts, labels_of_nothing, several_labels, unlabelled, tables, eight_bits, wide,
        own_range, image_without_data, many_bands, other_place, lines_of_a_gis, orientation, links]  # fmt: skip


def table():
    lines = PAGE.read_text(encoding="utf-8").split("## What a file means")[1].split("\n## ")[0].splitlines()
    return [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("|")][2:]


@pytest.mark.parametrize(
    ("check", "row"), list(zip(ROWS, table(), strict=True)), ids=[check.__name__ for check in ROWS]
)
def test_files_mean_what_the_page_says(tmp_path, check, row):
    check(tmp_path)
