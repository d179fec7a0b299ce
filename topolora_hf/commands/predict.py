"""`topolora predict`: masks of images, each done once."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..data.errors import DataError
from ..files import output_folder, read_json_object, write_json
from ..inference.files import find_images, output_names
from ..inference.origin import Origin, network_digest
from ..inference.predictor import Predictor
from ..processes import process_state
from ..training.arguments import changed_settings
from .arguments import InferenceArguments, build_predictor

PREDICT_SETTINGS = "predict_args.json"
_WRITTEN = ("_mask.png", "_probability.png", "_overlay.png", "_centreline.json", "_centreline.png")


@dataclass(kw_only=True)
class PredictArguments(InferenceArguments):
    """Segment images with an adapter."""

    images: list[str] = field(metadata={"help": "files, folders or globs of images of any size"})
    output_dir: str = field(default="predictions", metadata={"help": "where masks and overlays are written"})
    within_disc: bool | None = field(
        default=None,
        metadata={
            "help": "mark nothing on the dark ground around a retinal photograph; by default so where the adapter was "
            "trained on retinas, and with tiny"
        },
    )
    probability: bool = field(default=False, metadata={"help": "write the probability map too, as a 16-bit PNG"})
    overlay: bool = field(default=True, metadata={"help": "write a picture of the mask over the image"})
    centreline: bool = field(
        default=False, metadata={"help": "write the skeleton, and its length, branch points and mean width"}
    )
    overwrite: bool = field(default=False, metadata={"help": "do again what is done, or was done with other settings"})


def predict(args: PredictArguments) -> list[Path]:
    """Writes `NAME_mask.png`, and what else is asked for, for every image; returns the masks.

    An image is done when its mask, which is written last, says that it was made of this image by these weights and
    settings (`Origin`): the same command goes on where it stopped. Under `accelerate launch` the processes share the
    images.

    Raises:
        DataError: some images could not be read; every other has its mask then.
        ValueError: the folder is one of the images', or holds masks that were made with other settings, of other images
            of these names, or are not ours.
    """
    files = find_images(args.images)
    output, state = Path(args.output_dir), process_state()
    work = [(file, output / f"{name}_mask.png") for file, name in zip(files, output_names(files), strict=True)]
    predictor = build_predictor(args)
    with state.main_process_first():
        if state.is_main_process:
            _require_other_folder(output, files)
            _begin_predictions(args, output, work)
    network = network_digest(predictor.model, {**asdict(predictor.settings), **_settings_of_masks(args)})
    mine = work[state.process_index :: state.num_processes]
    waiting = [(file, mask) for file, mask in mine if not _is_up_to_date(mask, file, network)]
    unreadable = []
    for file, mask in tqdm(waiting, desc="predicting", disable=None):
        try:
            _predict_one(predictor, file, mask, network, args)
        except DataError as error:
            unreadable.append(str(error))
    state.wait_for_everyone()  # the launcher ends the others once one has ended with an error
    print(f"{len(mine) - len(waiting)} of {len(mine)} masks were in {output} already, {len(waiting)} were to be made")
    if unreadable:
        raise DataError(f"{len(unreadable)} images have no mask:\n" + "\n".join(unreadable))
    return [mask for _, mask in work]


def _require_other_folder(output: Path, images: list[Path]) -> None:
    folder = output.resolve()
    beside = next((file for file in images if file.resolve().parent == folder), None)
    if beside is not None:
        raise ValueError(
            f"output_dir {output} is the folder of {beside}: what is written there would be taken for images, and "
            "might replace masks of yours; choose another"
        )


def _settings_of_masks(args: PredictArguments) -> dict:
    free = {"images", "output_dir", "overwrite", "tile_batch"}
    return {name: value for name, value in asdict(args).items() if name not in free}


def _begin_predictions(args: PredictArguments, output: Path, work: list[tuple[Path, Path]]) -> None:
    """Notes the settings of a folder's masks, or checks that they are the same, and that no other mask is there."""
    output_folder(output)
    note, settings = output / PREDICT_SETTINGS, _settings_of_masks(args)
    if args.overwrite:
        for _, mask in work:
            for ending in _WRITTEN:
                _beside(mask, ending).unlink(missing_ok=True)
    elif note.exists() and (changed := changed_settings(read_json_object(note), args, asdict(args).keys() - settings)):
        raise ValueError(
            f"{output} holds masks made with other settings ({'; '.join(changed)}): choose another output_dir, or "
            "overwrite them with --overwrite True"
        )
    for file, mask in work:
        if mask.exists() and (problem := _not_the_mask_of(file, mask)):
            raise ValueError(f"{mask} {problem}: choose another output_dir, or overwrite it with --overwrite True")
    write_json(note, settings)


def _not_the_mask_of(file: Path, mask: Path) -> str | None:
    """What speaks against replacing a mask by this image's; an image may change, or move to another folder."""
    was = Origin.read(mask)
    if was is None:
        return "does not say what it was predicted from (it was edited, or is not ours, or an earlier version's)"
    try:
        is_now = Origin.of(file, was.network)
    except DataError:  # it will get no mask, and an error that says so
        return None
    if was.image != is_now.image and was.place != is_now.place:
        return f"is of another image than {file}"
    return None


def _is_up_to_date(mask: Path, image: Path, network: str) -> bool:
    """An image that is gone by now is not; reading it says so."""
    try:
        was, is_now = Origin.read(mask), Origin.of(image, network)
    except (DataError, FileNotFoundError):
        return False
    return was is not None and (was.image, was.network) == (is_now.image, is_now.network)


def _beside(mask: Path, ending: str) -> Path:
    """A file on the same image: `NAME_overlay.png` of `NAME_mask.png`."""
    return mask.with_name(mask.name.removesuffix("_mask.png") + ending)


def _predict_one(predictor: Predictor, file: Path, mask: Path, network: str, args: PredictArguments) -> None:
    origin = Origin.of(file, network)  # first: were the image replaced meanwhile, the next command would see it
    prediction = predictor(file)
    if args.probability:
        prediction.save_probability(_beside(mask, "_probability.png"))
    if args.overlay:
        prediction.save_overlay(_beside(mask, "_overlay.png"))
    if args.centreline:
        prediction.centreline.save(_beside(mask, "_centreline.json"))
    prediction.save_mask(mask, origin.as_text())
