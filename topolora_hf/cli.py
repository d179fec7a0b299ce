"""The command lines: of the recipes, and of the installed `topolora` command."""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import yaml
from datasets import Dataset
from torch.utils.data import ConcatDataset
from tqdm import tqdm
from transformers import HfArgumentParser

from .convert import ConvertArguments, convert
from .data import DataArguments, DataError, SegmentationData
from .data.describe import DescribeArguments, describe
from .hub import push_adapter
from .inference import Predictor, find_images
from .inference.files import output_names
from .inference.loading import ADAPTER_HELP, DTYPE_HELP, autocast_dtype, load_network
from .inference.origin import Origin, network_digest
from .json_files import read_json_object
from .metrics import score_images, summarise, write_per_image_csv
from .network import AdapterMismatchError
from .output_files import output_folder
from .processes import process_state
from .training import PretrainArguments, RunStopped, TrainArguments, pretrain, score_rows, train
from .training.arguments import changed_settings
from .training.run_directory import write_json

_SCALE_HELP = (
    "how much images are enlarged first, where theirs is another scale than the training images'; by default not, but "
    "retinal photographs so that their disc is as large as those were"
)
_SCALES_HELP = (
    "average the probabilities at each of these times that size, such as 0.8 1 1.25: in place of the adapter's own"
)
_COLOURS_HELP = (
    "give retinal photographs whose colours no training image had those of the training images: another camera's"
)
PREDICT_SETTINGS = "predict_args.json"
_NO_VALUE = ("", "~", "null")  # how a settings file says that the default stands


@dataclass(kw_only=True)
class InferenceArguments:
    """Which adapter predicts, and how."""

    adapter: str = field(metadata={"help": ADAPTER_HELP})
    base: str | None = field(
        default=None, metadata={"help": "the base, where it is not the one that the adapter names"}
    )
    threshold: float | None = field(default=None, metadata={"help": "in place of the adapter's own"})
    scale: float | None = field(default=None, metadata={"help": _SCALE_HELP})
    match_colours: bool = field(default=True, metadata={"help": _COLOURS_HELP})
    test_time_flips: bool | None = field(
        default=None, metadata={"help": "average each tile's four mirrorings, or not: in place of the adapter's own"}
    )
    test_time_scales: list[float] | None = field(default=None, metadata={"help": _SCALES_HELP})
    dtype: str | None = field(default=None, metadata={"help": DTYPE_HELP})
    tile_batch: int = field(default=4, metadata={"help": "tiles that run at once; more need more memory"})


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


@dataclass(kw_only=True)
class ScoreArguments(InferenceArguments, DataArguments):
    """Score an adapter on a data set; the data's settings are those of its training run."""

    part: str = field(default="test", metadata={"help": "what is scored: train, validation, test, or all of them"})
    output_dir: str = field(default="scores", metadata={"help": "where metrics.json and per_image.csv are written"})

    def __post_init__(self):
        if self.protocol == "paper" and self.part not in ("validation", "test"):
            raise ValueError(f"protocol paper scores validation or test images alone, got part={self.part!r}")


@dataclass(kw_only=True)
class GraderArguments(DataArguments):
    """Score the second person's masks of a data set against the first's: how far two experts agree."""

    output_dir: str = field(default="graders", metadata={"help": "where metrics.json and per_image.csv are written"})


@dataclass
class PushArguments:
    """Publish a trained adapter on the Hub."""

    directory: str = field(metadata={"help": "a run directory, or its adapter folder"})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "the repository, org/name or name; by default the run directory's name"}
    )
    private: bool = field(default=False, metadata={"help": "make a new repository a private one"})


def push(args: PushArguments) -> str:
    """Publishes the adapter; returns the repository's address."""
    address = push_adapter(args.directory, args.hub_model_id, args.private)
    print(f"pushed to {address}")
    return address


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
    predictor = _predictor(args)
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
            mask.unlink(missing_ok=True)
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
    except OSError:  # it will get no mask, and an error that says so
        return None
    if was.image != is_now.image and was.place != is_now.place:
        return f"is of another image than {file}"
    return None


def _is_up_to_date(mask: Path, image: Path, network: str) -> bool:
    """An image that is gone by now is not; reading it says so."""
    try:
        was, is_now = Origin.read(mask), Origin.of(image, network)
    except OSError:
        return False
    return was is not None and (was.image, was.network) == (is_now.image, is_now.network)


def _predict_one(predictor: Predictor, file: Path, mask: Path, network: str, args: PredictArguments) -> None:
    prediction = predictor(file)
    stem = mask.with_name(mask.name.removesuffix("_mask.png"))
    if args.probability:
        prediction.save_probability(f"{stem}_probability.png")
    if args.overlay:
        prediction.save_overlay(f"{stem}_overlay.png")
    if args.centreline:
        prediction.centreline.save(f"{stem}_centreline.json")
    prediction.save_mask(mask, Origin.of(file, network).as_text())


def score(args: ScoreArguments) -> dict:
    """Writes metrics.json, per_image.csv and pictures; returns what metrics.json holds."""
    predictor = _predictor(args)
    splits = args.load(intensity=predictor.settings.intensity)
    if args.part not in (*splits, "all"):
        raise DataError(f"{args.dataset} has no {args.part!r} images; --part may be {', '.join(splits)} or all")
    scores = score_rows(predictor, _rows_of_all(splits) if args.part == "all" else splits[args.part])
    output = output_folder(args.output_dir)
    metrics = {
        "dataset": Path(args.dataset).name,
        "split": args.part,
        "protocol": args.protocol,
        "threshold": predictor.settings.threshold,
        "temperature": predictor.settings.temperature,
        "logit_bias": predictor.settings.logit_bias,
        "test_time_flips": predictor.settings.test_time_flips,
        "test_time_scales": list(predictor.settings.test_time_scales),
        "scale": args.scale,
        "match_colours": args.match_colours,
        "dtype": args.dtype or "float32",
        **scores.summary(),
    }
    scores.save(output, predictor.settings.threshold)
    write_json(output / "metrics.json", metrics)  # last: it says that all is there
    print_metrics(metrics)
    return metrics


def score_graders(args: GraderArguments) -> dict:
    """Writes metrics.json and per_image.csv over all images that two people marked, in whatever split they are.

    Raises:
        DataError: nobody marked an image twice.
        ValueError: one grader is asked for.
    """
    if args.grader != 1:
        raise ValueError(
            f"the second person's masks are scored against the first's: nothing to choose by grader={args.grader}"
        )
    first, second = (_places(replace(args, grader=grader, validation_fraction=0).load()) for grader in (1, 2))
    both = [name for name in first if name in second]
    if not both:
        raise DataError(f"data set {args.dataset} has no image that both people marked")
    rows = score_images(_agreement(first[name], second[name]) for name in tqdm(both, desc="scoring"))
    output = output_folder(args.output_dir)
    metrics = {"dataset": Path(args.dataset).name, **summarise(rows)}
    write_json(output / "metrics.json", metrics)
    write_per_image_csv(output / "per_image.csv", rows)
    print_metrics(metrics)
    return metrics


def _places(data: SegmentationData) -> dict[str, tuple[Dataset, int]]:
    """Where each image's row is, by id; nothing but ids is read."""
    return {name: (rows, number) for rows in data.values() for number, name in enumerate(rows["id"])}


def _rows_of_all(splits: SegmentationData) -> ConcatDataset:
    """Ids are one split's own: where two splits share some, the split's name goes before them all."""
    ids = list(chain.from_iterable(rows["id"] for rows in splits.values()))
    if len(set(ids)) == len(ids):
        return ConcatDataset(splits.values())
    return ConcatDataset(_Renamed(rows, part) for part, rows in splits.items())


@dataclass
class _Renamed(Sequence):
    """A split's rows, decoded when they are read, with the split's name in their ids."""

    rows: Dataset
    part: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        row = self.rows[number]
        return {**row, "id": f"{self.part}/{row['id']}"}


def _agreement(first: tuple[Dataset, int], second: tuple[Dataset, int]) -> dict:
    """A row of the first person's with the second's mask as the probability."""
    (rows, number), (other_rows, other_number) = first, second
    row, other = rows[number], other_rows.select_columns(["mask"])[other_number]
    return {**row, "mask": row["mask"] == 1, "probability": other["mask"].astype(float)}


def print_metrics(metrics: dict) -> None:
    """One line a value, numbers with four decimals, a score with its interval."""
    intervals = metrics.get("intervals", {})
    for name, value in metrics.items():
        if isinstance(value, float):
            low_high = "   [{:.4f}, {:.4f}]".format(*intervals[name]) if name in intervals else ""
            print(f"{name:22} {value:.4f}{low_high}")
        elif name != "intervals":
            print(f"{name:22} {value}")


def train_main() -> None:
    """`recipes/train.py`."""
    run_command(TrainArguments, lambda args: _print_once(train(args)))


def pretrain_main() -> None:
    """`recipes/pretrain_tiny.py`."""
    run_command(PretrainArguments, lambda args: _print_once(pretrain(args)))


def predict_main() -> None:
    """`recipes/predict.py`."""
    run_command(PredictArguments, predict)


def describe_main() -> None:
    """`recipes/describe.py`."""
    run_command(DescribeArguments, describe)


def graders_main() -> None:
    """`recipes/graders.py`."""
    run_command(GraderArguments, score_graders)


def score_main() -> None:
    """`recipes/score.py`."""
    run_command(ScoreArguments, score)


def main() -> None:
    """`topolora predict ...`, and likewise the other commands."""
    commands = {"predict": predict_main, "score": score_main, "describe": describe_main}
    commands |= {"graders": graders_main, "push": push_main, "convert": convert_main}
    usage = f"usage: topolora {{{','.join(commands)}}} ... (each with --help)"
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(usage)
        sys.exit(0)
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        problem = f"unknown command {sys.argv[1]!r}" if len(sys.argv) > 1 else "no command given"
        print(f"{usage}\nerror: {problem}", file=sys.stderr)
        sys.exit(2)
    command = sys.argv.pop(1)
    sys.argv[0] = f"topolora {command}"
    commands[command]()


def run_command(arguments: type, job: Callable) -> None:
    """Parses flags and does the job; a foreseen error is a message, not a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be Unicode
    try:
        (args,) = HfArgumentParser(arguments).parse_args_into_dataclasses(_expand_settings_file(sys.argv[1:]))
        job(args)
    except (AdapterMismatchError, FloatingPointError, ImportError, MemoryError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_status)


def convert_main() -> None:
    """`recipes/convert.py`."""
    run_command(ConvertArguments, convert)


def push_main() -> None:
    """`topolora push`."""
    run_command(PushArguments, push)


def _print_once(metrics: dict) -> None:
    """What one of several processes says for all."""
    if process_state().is_main_process:
        print_metrics(metrics)


def _expand_settings_file(flags: list[str]) -> list[str]:
    """A leading YAML or JSON file becomes the flags that it lists; flags after it win over them."""
    if not flags or not flags[0].endswith((".yaml", ".yml", ".json")):
        return flags
    try:
        # Every value stays the text that it is, as on a command line: `mixed_precision: no` is not False.
        settings = yaml.load(Path(flags[0]).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{flags[0]} is not a YAML or JSON file: {error}") from error
    if not isinstance(settings, dict) or not all(map(_is_plain, settings.values())):
        raise ValueError(f"{flags[0]} must hold one setting a line (name: value)")
    listed = [
        [f"--{name}", *(value if isinstance(value, list) else [value])]
        for name, value in settings.items()
        if value not in _NO_VALUE
    ]
    return [*chain.from_iterable(listed), *flags[1:]]


def _is_plain(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _predictor(args: InferenceArguments) -> Predictor:
    model = load_network(args.adapter, args.base)
    if args.threshold is not None:
        if not 0 <= args.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {args.threshold}")
        model.adapter_settings.threshold = args.threshold
    dtype = autocast_dtype(args.dtype)
    return Predictor(
        model,
        scale=args.scale,
        flips=args.test_time_flips,
        scales=args.test_time_scales,
        tile_batch=args.tile_batch,
        dtype=dtype,
        match_colours=args.match_colours,
        within_disc=getattr(args, "within_disc", None),
    )
