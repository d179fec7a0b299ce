"""`topolora measure`: graphs of the centrelines of masks, and what they come to, in real units."""

import csv
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.classes import read_classes
from ..data.errors import DataError
from ..data.images.limits import TooLarge
from ..data.mask_rule import MaskForm, MaskRule
from ..data.records import some
from ..files import output_folder, write_history, write_json
from ..inference.files import file_a_class, find_images, inside_pixels, is_by_rows, output_names, rows_folder
from ..processes import process_state
from ..settings import option
from .arguments import ADAPTER_HELP, InferenceArguments
from .images import for_each_image, tell_progress
from .predict import CLASSES, PREDICT_SETTINGS
from .sources import checked_note

if TYPE_CHECKING:
    import networkx

    from ..data.place import Place
    from ..geo.raster import Raster

MEASURE_SETTINGS, TOTALS = "measure_args.json", "totals.csv"
VECTOR_FILES = ("geojson", "gpkg")
_FREE = {"masks", "images", "output_dir", "overwrite", "tile_batch"}  # settings that change no measure
_ROWS, _MOST_LEVELS = 1024, 256  # of a mask that is too large for memory: looked at at once; allowed
_TURNED = (0, 3)  # TIFFs where a higher number need not be brighter: MinIsWhite, a palette
_TRUE = 0.01  # by which the side of a pixel may differ from what it is on the ground
_OF_MASKS = ("mask_values", "classes", "invert_masks", "ignore")


@dataclass(kw_only=True)
class MeasureArguments(InferenceArguments):
    """Measure the lines of masks, or of what an adapter finds in images."""

    masks: list[str] = option([], "files, folders or globs of masks, such as the folder of a prediction", group="input")
    images: list[str] = option([], "files, folders or globs of images: an adapter makes their masks", group="input")
    adapter: str | None = option(None, ADAPTER_HELP, group="input")
    bands: list[int] = option(
        [], "the three bands to take of images with more, or one for grey, as 4 3 2; by default the adapter's",
        group="input",
    )  # fmt: skip
    mask_values: list[str] = option([], "what in a mask is structure, as for train", group="input")
    classes: list[str] = option(
        [], "the classes of masks, as for train: artery=1,3 vein=2,3; or the classes.json of a prediction, which is "
        "found in its folder",
        group="input",
    )  # fmt: skip
    invert_masks: bool = option(False, "take what is dark in a mask as structure", group="input")
    ignore: list[str] = option([], "values of a mask that are outside the measured area, as for train", group="input")
    pixel_size: float | None = option(
        None, "side of a pixel, in `unit`; by default 1, and of a raster in a projected system its own, in metres",
        group="output", above=0,
    )  # fmt: skip
    unit: str | None = option(None, "the unit of pixel_size, such as mm", group="output")
    prune: bool = option(True, "remove spurs shorter than the local width, and holes of one pixel", group="output")
    vector: str = option(
        "geojson", "file of the lines for a GIS: geojson (longitude and latitude, or pixels), or gpkg (the raster's "
        "system)",
        group="output", choices=VECTOR_FILES,
    )  # fmt: skip
    pictures: bool = option(True, "write the graph over the image, and histograms", group="output")
    output_dir: str = option("measures", "where the graphs and totals.csv are written", group="output")
    overwrite: bool = option(False, "make again what is there, also what was made with other settings", group="output")

    def __post_init__(self):
        super().__post_init__()
        if bool(self.masks) == bool(self.images):
            raise ValueError("give either masks, which are measured as they are, or images with an adapter")
        if bool(self.images) != (self.adapter is not None):
            raise ValueError("images need an adapter, and masks need none")
        if (self.pixel_size is None) != (self.unit is None):
            raise ValueError(f"give pixel_size and unit together, got {self.pixel_size} and {self.unit}")
        others = _OF_MASKS if self.images else [item.name for item in fields(InferenceArguments)] + ["bands"]
        defaults = {item.name: item for item in fields(self)}
        for name in others:
            if name != "adapter" and getattr(self, name) not in (defaults[name].default, []):
                raise ValueError(f"{name} is for {'masks' if self.images else 'images'}, and has no effect here")


@dataclass
class Measured:
    """An image that was measured: its graph, the area in pixels of each class, what is drawn under it, its place."""

    graph: "networkx.MultiGraph"
    area: int
    picture: np.ndarray
    place: "Place | None"


def measure(args: MeasureArguments) -> Path:
    """Write the graph of every image, and a row of totals an image (and class); return the path of `totals.csv`.

    Files an image: `NAME_segments.csv`, `NAME_graph.graphml`, `NAME_graph.geojson` or `.gpkg`, `NAME.swc`, and the
    pictures `NAME_graph.png` and `NAME_histogram.png`. Its row is written last: an image that has one is skipped, and
    the same command goes on where it stopped.

    An image that is too large for memory (`max_image_pixels`) is segmented and measured by rows; `NAME_mask.tif` is
    written for it.

    Raises:
        DataError: Some images could not be measured. Every other one is then.
        ValueError: The folder holds measures made with other settings, of other files of the same names or by something
            else, or there are several processes.
        ImportError: `vector` is gpkg, and pyogrio or shapely is not installed.
    """
    if (count := process_state().num_processes) > 1:
        raise ValueError(
            f"measure is one process, and was launched as {count}: share the images among processes with `topolora "
            "predict`, and measure its masks by `topolora measure --masks`"
        )
    files = _masks_of(args.masks) if args.masks else find_images(args.images)
    names = [name.removesuffix("_mask") for name in output_names(files)]
    if len(set(names)) < len(names):
        names = output_names(files)
    output = output_folder(args.output_dir)
    look = _looker(args, output) if args.overwrite else None  # an error now removes nothing
    rows = _begin(args, output, files, names)
    done = {row["id"] for row in rows}
    waiting = [(file, name) for file, name in zip(files, names, strict=True) if name not in done]
    if there := len(files) - len(waiting):
        print(f"{there} of {len(files)} images are in {output / TOTALS} already (--overwrite measures them again)")
    if waiting and look is None:
        look = _looker(args, output)

    def measure_one(file: Path, name: str, tell: Callable[..., None]) -> None:
        seen = look(file, name, tell)
        seen.graph = _in_units(seen, args)
        added = _write(seen, output, name, args)
        rows.extend(added)
        write_history(output / TOTALS, rows)
        length, unit = sum(row["length"] for row in added), seen.graph.graph["unit"]
        tell(f"{file}: {seen.graph.number_of_edges():,} segments, {length:,.6g} {unit}")

    problems = for_each_image(waiting, measure_one, "measuring")
    print(f"{len(done) + len(waiting) - len(problems)} images are in {output / TOTALS}")
    if problems:
        raise DataError(f"{len(problems)} images were not measured:\n" + "\n".join(problems))
    return output / TOTALS


def _masks_of(patterns: list[str]) -> list[Path]:
    """Find masks. Of a folder of predictions only those, the GeoTIFF rather than the PNG beside it."""
    found = {}
    for pattern in patterns:
        files = find_images([pattern])
        if (Path(pattern) / PREDICT_SETTINGS).is_file():
            of_name = {file.with_suffix(""): file for file in files if file.stem.endswith("_mask")}  # .png before .tif
            if not of_name:
                raise DataError(f"{pattern} has no masks: expected NAME_mask.png, as `topolora predict` writes them")
            files = list(of_name.values())
        found |= dict.fromkeys(files)
    return list(found)


def _looker(args: MeasureArguments, output: Path):
    """A function from a file, the name of its results, and one that prints, to what is measured in the file."""
    if args.images:
        print(f"loading {args.adapter}")
        predictor = args.build_predictor(bands=args.bands or None)
        return partial(_of_image, predictor, args.prune, output)
    form = _form_of_masks(args)
    return lambda file, name, tell: _of_mask(file, form, args.prune, tell)


def _form_of_masks(args: MeasureArguments) -> MaskForm:
    given = args.classes
    beside = {Path(pattern, CLASSES) for pattern in args.masks if Path(pattern, CLASSES).is_file()}
    if not given and beside:
        if len(beside) > 1:
            raise DataError(
                f"{' and '.join(map(str, sorted(beside)))} name classes: measure one folder, or give --classes"
            )
        given = [str(beside.pop())]
        print(f"classes are those of {given[0]}")
    rule = MaskRule(tuple(args.mask_values), tuple(args.ignore), args.invert_masks)
    classes = read_classes(given)
    return classes.form(rule, False) if classes else MaskForm((rule,))


def _of_image(predictor, prune: bool, output: Path, file: Path, name: str, tell: Callable[[str], None]) -> Measured:
    """Segment an image and measure it. The mask of one that is too large for memory is a file, which is kept."""
    try:
        prediction = predictor(file)
    except TooLarge:
        from ..inference.prediction import Prediction
        from ..inference.rasters import predict_raster

        mask = output / f"{name}_mask.tif"
        if not (mask.exists() and is_by_rows(mask)):
            predict_raster(predictor, file, mask, progress=tell_progress(str(file), tell))
        return _of_raster(mask, Prediction.without_pixels(predictor.settings).values_of_classes, prune, tell)
    inside = prediction.inside
    area = prediction.mask.size if inside is None else int(inside.sum())
    return Measured(prediction.graph(prune), area, prediction.image, prediction.place)


def _of_mask(file: Path, form: MaskForm, prune: bool, tell: Callable[..., None]) -> Measured:
    from ..data.checks import remarks_on
    from ..data.images.masks import read_mask
    from ..data.place import read_place
    from ..graphs import centreline_graph

    try:
        reading = read_mask(file, rule=form.rules[0])
    except TooLarge:
        return _of_raster(file, _numbers_of_classes(file, form), prune, tell, bool(form.rules[0].values))
    for remark in remarks_on(reading, form.rules[0]):
        tell(f"warning: {file}: {remark}", file=sys.stderr)
    if reading.unknown:
        raise DataError(f"has values that are of no class: {_in_words(reading.unknown)}; name them, or --ignore them")
    graphs = {name: centreline_graph(mask == 1, prune) for name, mask in zip(form.names, reading.mask, strict=True)}
    area = reading.mask[0].size if reading.ignored is None else int((~reading.ignored).sum())
    if reading.ignored is None and file.suffix.lower() == ".png":
        area = inside_pixels(file) or area
    picture = reading.mask.any(0).astype(np.uint8) * np.uint8(255)
    return Measured(_of_classes(graphs), area, picture, read_place(file))


def _numbers_of_classes(file: Path, form: MaskForm) -> dict[str, Sequence[int]]:
    """The values of each class in a mask that is too large for memory; none: all but 0."""
    if form.rules[0].inverted:
        raise DataError(f"{file}: is too large for memory: name what is structure by --mask_values, not --invert_masks")
    values = form.rules[0].classes or (form.rules[0].values,)
    if not all(value.isdigit() for own in values for value in own):
        raise DataError(f"{file}: is too large for memory, so its classes must be numbers")
    if form.rules[0].ignore:
        raise DataError(f"{file}: is too large for memory, so only its own no-data value is left out, without --ignore")
    return {name: [int(value) for value in own] for name, own in zip(form.names, values, strict=True)}


def _of_raster(
    file: Path,
    classes: Mapping[str, Sequence[int]],
    prune: bool,
    tell: Callable[[str], None],
    others_are_background: bool = False,
) -> Measured:
    """Measure a mask that is too large for memory, by rows. Of one class without numbers, its only level is structure.

    Raises:
        DataError: It has several bands, or levels that nothing names.
    """
    from ..geo.raster import opened_by_rows, picture_step
    from ..graphs import graph_of_rows

    with opened_by_rows(file) as raster:
        height, width = raster.size
        area, classes = _levels_of(raster, classes, others_are_background)

        def rows_of(label: str, numbers: Sequence[int]):
            of_class = f"{file}, {label}" if len(classes) > 1 else str(file)
            progress, farthest = tell_progress(f"{of_class}, thinned", tell), 0

            def read(top: int, bottom: int) -> np.ndarray:
                nonlocal farthest
                if top > farthest:  # later on, the same rows are read again for widths, which is quick
                    progress(0, farthest := top, height)
                levels = raster.levels(top, bottom)
                return np.isin(levels, numbers)

            return read

        graphs = {
            label: graph_of_rows(rows_of(label, numbers), height, width, prune) for label, numbers in classes.items()
        }
        every = picture_step(raster.size)
        picture = np.concatenate([raster.levels(top, top + 1)[:, ::every] > 0 for top in range(0, height, every)])
        return Measured(_of_classes(graphs), area, picture.astype(np.uint8) * np.uint8(255), raster.place)


def _levels_of(
    raster: "Raster", classes: Mapping[str, Sequence[int]], others_are_background: bool
) -> tuple[int, dict[str, Sequence[int]]]:
    """The measured area in pixels, and the values of each class, if all levels of a mask are known."""
    (height, width), dataset, seen = raster.size, raster.dataset, {}
    if dataset.count > 1:
        raise DataError(f"{raster.path}: a mask has one band, and this has {dataset.count}")
    for top in range(0, height, _ROWS):
        bottom = min(height, top + _ROWS)
        levels, counts = np.unique(raster.levels(top, bottom), return_counts=True)
        for level, count in zip(levels.tolist(), counts.tolist(), strict=True):
            seen[level] = seen.get(level, 0) + count
        if len(seen) > _MOST_LEVELS:
            raise DataError(f"{raster.path}: has more than {_MOST_LEVELS} levels in its first {bottom:,} rows")
    named = {number for numbers in classes.values() for number in numbers}
    if not named and raster.page is not None and raster.page.photometric in _TURNED:
        raise DataError(f"{raster.path}: has a palette, or white is 0: name the values of structure by --mask_values")
    if others_are_background:
        seen = {}
    if unnamed := {level: count for level, count in seen.items() if level != 0 and level not in named}:
        if named or len(unnamed) > 1 or min(unnamed) < 0:
            raise DataError(
                f"{raster.path}: has values that are of no class: {_in_words(unnamed)}; name them by --mask_values or "
                "--classes, or make them its no-data value"
            )
        classes = dict.fromkeys(classes, list(unnamed))
    if dataset.nodata == 0:  # a map of structures may call its background no data
        return height * width, dict(classes)
    parts = (((top, min(height, top + _ROWS)), (0, width)) for top in range(0, height, _ROWS))
    return sum(np.count_nonzero(dataset.read_masks(1, window=part)) for part in parts), dict(classes)


def _in_words(pixels: Mapping[object, int]) -> str:
    return some([f"{level} ({count:,} pixels)" for level, count in pixels.items()])


def _of_classes(graphs: "dict[str, networkx.MultiGraph]") -> "networkx.MultiGraph":
    from ..graphs import joined

    return joined(graphs) if len(graphs) > 1 else next(iter(graphs.values()))


def _in_units(seen: Measured, args: MeasureArguments) -> "networkx.MultiGraph":
    from ..graphs import in_units

    if args.pixel_size is not None:
        return in_units(seen.graph, args.pixel_size, args.unit)
    metres = seen.place.pixel_size() if seen.place else None
    if metres:
        ground = seen.place.pixel_metres(*seen.graph.graph["shape"])
        if max(abs(each - metres) for each in ground) > _TRUE * metres:
            raise DataError(
                f"{seen.place.name} is not true to scale here: a pixel of {metres:.6g} m is {ground[0]:.6g} x "
                f"{ground[1]:.6g} m on the ground; resample it to a system that is, such as UTM (gdalwarp -t_srs), or "
                "give --pixel_size and --unit"
            )
    return in_units(seen.graph, metres, "m") if metres else seen.graph


def _write(seen: Measured, output: Path, name: str, args: MeasureArguments) -> list[dict]:
    """Write the files of an image; return its rows of totals."""
    from ..graphs import graph_totals
    from ..inference.measures import save_graph

    graph = seen.graph
    save_graph(graph, output, name, seen.picture if args.pictures else None, seen.place, args.vector)
    units = {"unit": graph.graph["unit"], "pixel_size": graph.graph["pixel_size"]}
    return [
        {"id": name, **({"class": label} if label else {}), **units, **graph_totals(graph, seen.area, label)}
        for label in graph.graph.get("classes", (None,))
    ]


def _begin(args: MeasureArguments, output: Path, files: list[Path], names: list[str]) -> list[dict]:
    """Note the settings of a folder's measures, or check that they are the same. Return the rows that are there."""
    totals, rows = output / TOTALS, []
    if totals.exists():
        with totals.open(newline="", encoding="utf-8") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    measured, sources = {row["id"] for row in rows}, dict(zip(names, files, strict=True))

    def is_there(name: str) -> bool:
        return name in measured or (output / f"{name}_mask.tif").exists()

    note, foreign = output / MEASURE_SETTINGS, totals if totals.exists() else None
    noted = checked_note(note, args, _FREE, "measures", sources, is_there, foreign)
    if args.overwrite:
        _remove(output, names, rows)
        rows = [row for row in rows if row["id"] not in sources]
    write_json(note, noted)
    return rows


def _remove(output: Path, names: list[str], rows: list[dict]) -> None:
    """Remove what was written for images of these names; of classes as `rows` name them."""
    from ..inference.measures import GRAPH_FILES

    for file in (output / f"{name}{ending}" for name in names for ending in (*GRAPH_FILES, "_mask.tif")):
        file.unlink(missing_ok=True)
    for row in rows:
        if row["id"] in names and "class" in row:
            (output / file_a_class(f"{row['id']}.swc", [row["class"]])[0]).unlink(missing_ok=True)
    for name in names:
        shutil.rmtree(rows_folder(output / f"{name}_mask.tif"), ignore_errors=True)


def _numbers(row: dict) -> dict:
    return {**row, "length": float(row["length"])}
