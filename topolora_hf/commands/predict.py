"""`topolora predict`: masks of images, each done once."""

import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.errors import DataError
from ..data.images.limits import TooLarge
from ..files import output_folder, read_json_object, write_json
from ..inference.files import file_a_class, find_images, is_by_rows, output_names, rows_folder
from ..metrics.classes import label_values
from ..processes import process_state
from ..settings import option
from .arguments import InferenceArguments
from .images import duration, for_each_image, tell_progress
from .sources import checked_note

PREDICT_SETTINGS = "predict_args.json"
CLASSES = "classes.json"
_WRITTEN = (
    "_mask.png",
    "_mask.tif",
    "_probability.png",
    "_probability.tif",
    "_overlay.png",
    "_centreline.json",
    "_centreline.png",
)
_WRITTEN_A_CLASS = ("_mask.png", "_probability.png")
_FREE = {"images", "output_dir", "overwrite", "tile_batch"}  # settings that change no mask


@dataclass(kw_only=True)
class PredictArguments(InferenceArguments):
    """Segment images with an adapter."""

    images: list[str] = option(help="files, folders or globs of images of any size", group="input")
    bands: list[int] = option(
        [], "the three bands to take of images with more, or one for grey, as 4 3 2; by default the adapter's",
        group="input",
    )  # fmt: skip
    output_dir: str = option("predictions", "where masks and overlays are written", group="output")
    class_masks: bool = option(False, "write the mask of each class too, as a PNG of 0 and 255", group="output")
    probability: bool = option(False, "write the probability maps too, as 16-bit PNGs", group="output")
    overlay: bool = option(True, "write a picture of the mask over the image", group="output")
    centreline: bool = option(False, "write the centreline, its length, loops, mean width, ...", group="output")
    overwrite: bool = option(False, "make again what is there, also what was made with other settings", group="output")


def predict(args: PredictArguments) -> list[Path]:
    """Write `NAME_mask.png`, and what else is asked for, for every image; return the masks.

    Of a GeoTIFF, `NAME_mask.tif` is written too: the mask at its place on the map. Of several classes the masks hold
    the classes' values, which `classes.json` names.

    An image that is too large for memory (`max_image_pixels`) is read and written by rows, and gives `NAME_mask.tif`
    alone, with a reduced overlay. Its finished rows are kept if the command is stopped.

    A mask is written last, so an image that has one is done and is skipped: the same command goes on where it stopped.
    `predict_args.json` notes the settings, and which file each mask was made from.
    Under `accelerate launch` the processes share the images.

    Raises:
        DataError: Some images have no mask, as they cannot be read or are too large. Every other one has its mask then.
        ValueError: The folder is one of the images', or holds masks made with other settings, from other images of the
            same names, by an adapter that has changed since, or by something else.
    """
    files = find_images(args.images)
    output, state = Path(args.output_dir), process_state()
    work = [(file, output / f"{name}_mask.png") for file, name in zip(files, output_names(files), strict=True)]
    predictor = _load(args) if args.overwrite else None  # an error now removes nothing
    with state.main_process_first():
        if state.is_main_process:
            _begin(args, output, files, [mask for _, mask in work], predictor.settings.labels if predictor else ())
    mine = work[state.process_index :: state.num_processes]
    waiting = [(file, mask) for file, mask in mine if not _is_done(mask)]
    if there := len(mine) - len(waiting):
        print(f"{there} of {len(mine)} images have a mask in {output} already (--overwrite makes it again)")
    problems = _predict_all(predictor or _load(args), args, waiting) if waiting else []
    state.wait_for_everyone()  # the launcher ends the others once one has ended with an error
    if problems:
        raise DataError(f"{len(problems)} images have no mask:\n" + "\n".join(problems))
    return [mask if mask.exists() else mask.with_suffix(".tif") for _, mask in work]


def _is_done(mask: Path) -> bool:
    """Whether there is a PNG, or the GeoTIFF of an image that was too large for one."""
    raster = mask.with_suffix(".tif")
    return mask.exists() or (raster.exists() and is_by_rows(raster))


def _load(args: PredictArguments):
    print(f"loading {args.adapter}")
    predictor = args.build_predictor(bands=args.bands or None)
    label_values(predictor.settings.labels, predictor.settings.exclusive)  # an error now if no mask holds them
    return predictor


def _predict_all(predictor, args: PredictArguments, work: list[tuple[Path, Path]]) -> list[str]:
    """Predict image by image, and say what is written. Return what is wrong with those that have no mask."""
    print(f"predicting {len(work)} image{'s' * (len(work) > 1)} on {predictor.device}")
    doubtful, start = 0, time.monotonic()

    def predict_one(file: Path, mask: Path, tell: Callable[..., None]) -> None:
        nonlocal doubtful
        written, warnings = _predict_one(predictor, file, mask, args, tell)
        tell(f"{file}: wrote {', '.join(written)}")
        for warning in warnings:
            tell(f"warning: {file}: {warning}", file=sys.stderr)
        doubtful += bool(warnings)

    problems = for_each_image(work, predict_one, "predicting")
    masks = len(work) - len(problems)
    print(f"{masks} mask{'s' * (masks != 1)} in {duration(time.monotonic() - start)}, in {args.output_dir}")
    if doubtful:
        print(f"warning: {doubtful} of them may be wrong: see the warnings above", file=sys.stderr)
    return problems


def _predict_one(
    predictor, file: Path, mask: Path, args: PredictArguments, tell: Callable[[str], None]
) -> tuple[list[str], Sequence[str]]:
    """Write the files of an image. Return their names, and why the mask may be wrong."""
    try:
        prediction = predictor(file)
    except TooLarge:
        return _predict_by_rows(predictor, file, mask, args, tell)
    return _save(prediction, mask, args), prediction.warnings


def _predict_by_rows(
    predictor, file: Path, mask: Path, args: PredictArguments, tell: Callable[[str], None]
) -> tuple[list[str], Sequence[str]]:
    """Write the GeoTIFFs of an image that is too large for memory, and a smaller overlay; the mask last."""
    from ..inference.prediction import Prediction
    from ..inference.rasters import predict_raster

    if args.class_masks or args.centreline:
        raise DataError(
            "is too large for memory: its mask is one GeoTIFF, without --class_masks and --centreline (`topolora "
            "measure` measures it)"
        )
    raster = mask.with_suffix(".tif")
    probability = _beside(mask, "_probability.tif") if args.probability else None
    overlay = _beside(mask, "_overlay.png") if args.overlay else None
    warnings = predict_raster(predictor, file, raster, probability, overlay, tell_progress(str(file), tell))
    if len(predictor.settings.labels) > 1:
        Prediction.without_pixels(predictor.settings).save_classes(mask.with_name(CLASSES))
    return [str(raster), *(path.name for path in (probability, overlay) if path)], warnings


def _save(prediction, mask: Path, args: PredictArguments) -> list[str]:
    """Write the files of an image, the mask last. Return their paths, after the first the names alone."""
    written = [mask, *[mask.with_suffix(".tif")] * bool(prediction.place)]
    if len(prediction.labels) > 1:
        prediction.save_classes(mask.with_name(CLASSES))
    if args.class_masks:
        written += prediction.save_class_masks(mask)
    if args.probability:
        written += prediction.save_probability(_beside(mask, "_probability.png"))
    if args.overlay:
        written.append(_beside(mask, "_overlay.png"))
        prediction.save_overlay(written[-1])
    if args.centreline:
        written += [_beside(mask, "_centreline.json"), _beside(mask, "_centreline.png")]
        prediction.save_centreline(written[-2])
    prediction.save_mask(mask)
    return [str(mask), *(path.name for path in written[1:])]


def _begin(args: PredictArguments, output: Path, images: list[Path], masks: list[Path], labels: Sequence[str]) -> None:
    """Note the settings of a folder's masks, or check that they are the same, and that no other file is in the way.

    To overwrite is to remove what was written for the images, that of classes of these labels, too.
    """
    folder = output.resolve()
    if beside := next((file for file in images if file.resolve().parent == folder), None):
        raise ValueError(
            f"output_dir {output} is the folder of {beside}: what is written there would be taken for images, and "
            "might replace masks of yours; choose another"
        )
    output_folder(output)
    sources = {mask.name: image for mask, image in zip(masks, images, strict=True)}
    foreign = next((mask for mask in masks if mask.exists()), None)
    note = output / PREDICT_SETTINGS
    noted = checked_note(note, args, _FREE, "masks", sources, lambda name: _is_done(output / name), foreign)
    if args.overwrite:
        labels = {*labels, *_labels_in(output)}
        for mask in masks:
            for file in _written_for(mask, labels):
                file.unlink(missing_ok=True)
            shutil.rmtree(rows_folder(mask.with_suffix(".tif")), ignore_errors=True)
        (output / CLASSES).unlink(missing_ok=True)
    write_json(note, noted)


def _labels_in(output: Path) -> list[str]:
    """The classes of the masks that a folder holds; none of one class."""
    classes = output / CLASSES
    return [name for name in read_json_object(classes) if name != "exclusive"] if classes.exists() else []


def _written_for(mask: Path, labels: Collection[str]) -> Iterator[Path]:
    """All files that may have been written for an image, and no other that begins with its name."""
    yield from (_beside(mask, ending) for ending in _WRITTEN)
    for ending in _WRITTEN_A_CLASS:
        yield from file_a_class(_beside(mask, ending), labels)


def _beside(mask: Path, ending: str) -> Path:
    """A file of the same image: `NAME_overlay.png` of `NAME_mask.png`."""
    return mask.with_name(mask.name.removesuffix("_mask.png") + ending)
