"""`topolora measure`: graphs of the centrelines of masks, and what they come to, in real units."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.classes import read_classes
from ..data.errors import DataError
from ..data.images.limits import TooLarge
from ..data.mask_rule import MaskForm, MaskRule
from ..files import output_folder, read_json_object, write_history, write_json
from ..inference.files import find_images, output_names
from ..settings import changed_settings, option
from .arguments import ADAPTER_HELP, InferenceArguments
from .predict import CLASSES, PREDICT_SETTINGS

if TYPE_CHECKING:
    import networkx

    from ..data.place import Place

MEASURE_SETTINGS, TOTALS = "measure_args.json", "totals.csv"
VECTOR_FILES = ("geojson", "gpkg")
_FREE = {"masks", "images", "output_dir", "overwrite", "tile_batch"}  # settings that change no measure
_OF_MASKS = ("mask_values", "classes", "ignore")


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
            default = defaults[name].default if defaults[name].default_factory is list else defaults[name].default
            if name != "adapter" and getattr(self, name) not in (default, []):
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

    Raises:
        DataError: Some images could not be measured. Every other one is then.
        ValueError: The folder holds measures made with other settings or by something else.
        ImportError: `vector` is gpkg, and pyogrio or shapely is not installed.
    """
    files = _masks_of(args.masks) if args.masks else find_images(args.images)
    names = [name.removesuffix("_mask") for name in output_names(files)]
    if len(set(names)) < len(names):
        names = output_names(files)
    output = output_folder(args.output_dir)
    rows = _begin(args, output, names)
    done = {row["id"] for row in rows}
    waiting = [(file, name) for file, name in zip(files, names, strict=True) if name not in done]
    if there := len(files) - len(waiting):
        print(f"{there} of {len(files)} images are in {output / TOTALS} already (--overwrite measures them again)")
    look = _looker(args) if waiting else None
    problems = []
    for file, name in (bar := tqdm(waiting, desc="measuring", disable=None)):
        try:
            seen = look(file)
            seen.graph = _in_units(seen, args)
            rows += _write(seen, output, name, args)
        except (DataError, FloatingPointError, MemoryError) as error:
            text = str(error) or "there is not enough memory"
            problems.append(text if text.startswith(str(file)) else f"{file}: {text}")
            continue
        write_history(output / TOTALS, rows)
        length, unit = sum(row["length"] for row in rows if row["id"] == name), seen.graph.graph["unit"]
        bar.write(f"{file}: {seen.graph.number_of_edges():,} segments, {length:,.6g} {unit}")
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


def _looker(args: MeasureArguments):
    """A function from a file to what is measured in it."""
    if args.images:
        print(f"loading {args.adapter}")
        predictor = args.build_predictor(bands=args.bands or None)
        return lambda file: _of_prediction(predictor(file), args.prune)
    form = _form_of_masks(args)
    return lambda file: _of_mask(file, form, args.prune)


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
    rule = MaskRule(tuple(args.mask_values), tuple(args.ignore))
    classes = read_classes(given)
    return classes.form(rule, False) if classes else MaskForm((rule,))


def _of_prediction(prediction, prune: bool) -> Measured:
    inside = prediction.inside
    area = prediction.mask.size if inside is None else int(inside.sum())
    return Measured(prediction.graph(prune), area, prediction.image, prediction.place)


def _of_mask(file: Path, form: MaskForm, prune: bool) -> Measured:
    from ..data.images.masks import read_mask
    from ..data.place import read_place
    from ..graphs import centreline_graph

    try:
        reading = read_mask(file, rule=form.rules[0])
    except TooLarge:
        return _of_raster(file, form, prune)
    graphs = {name: centreline_graph(mask == 1, prune) for name, mask in zip(form.names, reading.mask, strict=True)}
    area = reading.mask[0].size - (0 if reading.ignored is None else int(reading.ignored.sum()))
    picture = reading.mask.any(0).astype(np.uint8) * np.uint8(255)
    return Measured(_of_classes(graphs), area, picture, read_place(file))


def _of_raster(file: Path, form: MaskForm, prune: bool) -> Measured:
    """Measure a mask that is too large for memory, by rows. Its values are numbers; other than 0 is structure."""
    from ..geo.raster import opened_by_rows
    from ..graphs import graph_of_rows

    values = form.rules[0].classes or ((form.rules[0].values),)
    if not all(value.isdigit() for own in values for value in own):
        raise DataError(f"{file}: is too large for memory, so its classes must be numbers")
    if form.rules[0].ignore:
        raise DataError(f"{file}: is too large for memory, so only its own no-data value is left out, without --ignore")
    with opened_by_rows(file) as raster:
        height, width = raster.size

        def rows_of(own: tuple[str, ...]):
            numbers = [int(value) for value in own]
            return lambda top, bottom: (
                np.isin(raster.levels(top, bottom), numbers) if numbers else raster.levels(top, bottom) > 0
            )

        graphs = {
            name: graph_of_rows(rows_of(own), height, width, prune)
            for name, own in zip(form.names, values, strict=True)
        }
        every = -(-max(height, width) // 2000)
        picture = np.concatenate([raster.levels(top, top + 1)[:, ::every] > 0 for top in range(0, height, every)])
        parts = (((top, min(height, top + 1024)), (0, width)) for top in range(0, height, 1024))
        area = sum(np.count_nonzero(raster.dataset.read_masks(1, window=part)) for part in parts)
        return Measured(_of_classes(graphs), area, picture.astype(np.uint8) * np.uint8(255), raster.place)


def _of_classes(graphs: "dict[str, networkx.MultiGraph]") -> "networkx.MultiGraph":
    from ..graphs import joined

    return joined(graphs) if len(graphs) > 1 else next(iter(graphs.values()))


def _in_units(seen: Measured, args: MeasureArguments) -> "networkx.MultiGraph":
    from ..graphs import in_units

    if args.pixel_size is not None:
        return in_units(seen.graph, args.pixel_size, args.unit)
    metres = seen.place.pixel_size() if seen.place else None
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


def _begin(args: MeasureArguments, output: Path, names: list[str]) -> list[dict]:
    """Note the settings of a folder's measures, or check that they are the same. Return the rows that are there."""
    note, totals, way_out = output / MEASURE_SETTINGS, output / TOTALS, "choose another output_dir, or use --overwrite"
    if args.overwrite:
        from ..inference.measures import GRAPH_FILES

        for file in (output / f"{name}{ending}" for name in names for ending in GRAPH_FILES):
            file.unlink(missing_ok=True)
    elif note.exists():
        if changed := changed_settings(read_json_object(note), args, _FREE):
            raise ValueError(f"{output} holds measures made with other settings ({'; '.join(changed)}): {way_out}")
    elif totals.exists():
        raise ValueError(f"{totals} was not made by this command ({note} is missing): {way_out}")
    write_json(note, {name: value for name, value in asdict(args).items() if name not in _FREE})
    if not totals.exists():
        return []
    with totals.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [_numbers(row) for row in rows if not (args.overwrite and row["id"] in names)]


def _numbers(row: dict) -> dict:
    return {**row, "length": float(row["length"])}
