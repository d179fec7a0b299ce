"""The named data sets: one entry each, which is all that a new set with a known layout needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import drive, folder, kvasir
from .errors import DataError
from .records import Splits
from .synthetic import KINDS

Reader = Callable[[Path, Mapping[str, int], bool], tuple[Splits, list[str]]]


def _help(text: str, **kwargs):
    return field(metadata={"help": text}, **kwargs)


@dataclass(frozen=True)
class DatasetSpec:
    """What is known about a data set before its files are seen."""

    name: str = _help("What --dataset calls it.")
    title: str = _help("Its full name, for model cards.")
    reader: Reader | None = _help("Lists its files; None where the images are made, not read.", default=None)
    layout: str = _help("The folder that --data_dir should be, in words, for errors and help.", default="")
    hub_id: str | None = _help("Its public copy on the Hub.", default=None)
    view: str = _help("'tiles': crops at native resolution; 'whole': the image resized to a tile.", default="tiles")
    tile_size: int = _help("Side of a tile in pixels.", default=256)
    counts: Mapping[str, int] = _help("Rows a split in the complete set; 'all' before splitting.", default_factory=dict)
    test_fraction: float = _help("Share held out as test where the layout has no split.", default=0.1)
    image_size: int = _help("Side of generated images in pixels.", default=256)
    kinds: tuple[str, ...] = _help("What generated images show.", default=KINDS)
    licence: str = _help("Under which terms it may be used.", default="unknown")
    citation: str = _help("What to cite.", default="")
    url: str = _help("Where it comes from.", default="")
    note: str = _help("What a reader of scores on it should know.", default="")


CATALOG: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="drive",
            title="DRIVE: Digital Retinal Images for Vessel Extraction",
            reader=drive.read_drive,
            layout=drive.LAYOUT,
            hub_id="Zomba/DRIVE-digital-retinal-images-for-vessel-extraction",
            counts={"train": 20, "test": 20},
            licence="research and teaching only, see the site",
            citation="Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23, 2004",
            url="https://drive.grand-challenge.org",
            note="Scores are at native resolution inside the field of view, against the first manual segmentation.",
        ),
        DatasetSpec(
            name="kvasir",
            title="Kvasir-SEG: a segmented polyp dataset",
            reader=kvasir.read_kvasir,
            layout=kvasir.LAYOUT,
            hub_id="Angelou0516/kvasir-seg",
            view="whole",
            counts={"all": 1000},
            test_fraction=0.12,
            licence="research and education only, see the site",
            citation="Jha et al., Kvasir-SEG: a segmented polyp dataset, MMM 2020, arXiv:1911.07069",
            url="https://datasets.simula.no/kvasir-seg",
            note="880 train and 120 test images: the authors' list where it lies beside the images, else a fixed draw.",
        ),
        DatasetSpec(
            name="synthetic",
            title="Synthetic curvilinear trees, cracks, roads and blobs",
            counts={"train": 200, "validation": 20, "test": 40},
            licence="Apache-2.0 (made by this package)",
            note="Drawn on the fly, always the same images; other counts or sizes: replace fields of this entry.",
        ),
        DatasetSpec(
            name="folder",
            title="A folder of images and masks",
            reader=folder.read_folder,
            layout=folder.LAYOUT,
            note="Without split folders a tenth is held out as test, the same whatever the seed.",
        ),
    )
}


def find_dataset(name_or_path: str | DatasetSpec, data_dir: str | None = None) -> tuple[DatasetSpec, Path | None]:
    """The catalogue entry for a name, or the folder entry for a path, and where its files are.

    Args:
        name_or_path: A name of `CATALOG`, a folder that exists, or an entry of one's own.
        data_dir: Where the files of a named set lie.

    Returns:
        The entry, under the folder's name for a path, and the folder to read; None for generated sets.

    Raises:
        DataError: The name is unknown, or the folder is absent, not a folder, or not given.

    >>> find_dataset("synthetic")[0].counts["test"]
    40
    """
    if isinstance(name_or_path, DatasetSpec):
        spec = name_or_path
    elif (key := name_or_path.lower()) in CATALOG:
        spec = CATALOG[key]
    else:
        return _folder_entry(name_or_path, data_dir)
    if spec.reader is None:
        if data_dir is not None:
            raise DataError(f"data set {spec.name!r} is generated and takes no data_dir, got {data_dir}")
        return spec, None
    if data_dir is None:
        raise DataError(f"data set {spec.name!r} needs data_dir (--data_dir), a folder with:\n{spec.layout}")
    return spec, _existing_folder(Path(data_dir).expanduser(), spec)


def _folder_entry(path_text: str, data_dir: str | None) -> tuple[DatasetSpec, Path]:
    path = Path(path_text).expanduser()
    if not path.exists():
        raise DataError(
            f"unknown data set {path_text!r}: neither a folder that exists nor one of {', '.join(sorted(CATALOG))}"
        )
    if data_dir is not None:
        raise DataError(f"{path_text} is a path already; data_dir {data_dir} goes with a name such as 'folder'")
    spec = CATALOG["folder"]
    return replace(spec, name=path.resolve().name), _existing_folder(path, spec)


def _existing_folder(path: Path, spec: DatasetSpec) -> Path:
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {problem}. Data set {spec.name!r} needs a folder with:\n{spec.layout}")
    return path
