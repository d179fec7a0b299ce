"""The named data sets: one entry each, which is all that a new set with a known layout needs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..synthetic import KINDS
from .archives import UNREADABLE_ARCHIVE_SUFFIXES, archive_stem
from .augmentation import Augmentation
from .classes import Classes, read_classes
from .errors import DataError
from .readers import folder, named, table
from .records import ReadOptions, Splits

Reader = Callable[[Path, ReadOptions], tuple[Splits, list[str]]]
SplitLists = Mapping[str, Mapping[str, Sequence[str]]]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SAR = Augmentation(colour=0.0)  # one channel, shown three times


def _help(text: str, **kwargs):
    return field(metadata={"help": text}, **kwargs)


@dataclass(frozen=True)
class DatasetSpec:
    """What is known about a data set before its files are seen."""

    name: str = _help("What --dataset calls it.")
    title: str = _help("Its full name, for model cards.")
    reader: Reader | None = _help("Lists its files; None where the images are made, not read.", default=None)
    layout: str = _help("The folder that --data_dir should be, in words, for errors and help.", default="")
    layout_is_free: bool = _help("Whether names of folders and files may be said.", default=False)
    hub_id: str | None = _help("Its public copy on the Hub.", default=None)
    view: str = _help("'tiles': crops at native resolution; 'full': the full image resized to a tile.", default="tiles")
    tile_size: int = _help("Side of a tile in pixels.", default=256)
    augmentation: Augmentation = _help("What training varies, and how far.", default=Augmentation())
    fov: str = _help(
        "Field of view where no file gives it: auto (found in the image), or given (all).", default="given"
    )
    annotators: int = _help("How many people drew masks of it.", default=1)
    split_lists: SplitLists = _help("Ids by split, by the name that --split gives the lists.", default_factory=dict)
    counts: Mapping[str, int] = _help("Rows a split in the complete set; 'all' before splitting.", default_factory=dict)
    test_fraction: float = _help("Share held out as test where the layout has no split.", default=0.1)
    image_size: int = _help("Side of generated images in pixels.", default=256)
    thin_structures: bool = _help("Whether its masks are thin structures, for model cards.", default=False)
    kinds: tuple[str, ...] = _help("What generated images show.", default=KINDS)
    classes: Classes | None = _help("Its classes, if there are several.", default=None)
    licence: str = _help("Under which terms it may be used.", default="unknown")
    citation: str = _help("What to cite.", default="")
    url: str = _help("Where it comes from.", default="")
    note: str = _help("What a reader of scores on it should know.", default="")
    limits: str = _help("Where its images come from, and so what an adapter cannot know.", default="")


_retinal = partial(DatasetSpec, fov="auto", annotators=2, thin_structures=True)
# By index, or by RITE's colours. Where an artery and a vein cross, or nobody can tell, a pixel is both.
_ARTERY_VEIN = read_classes({"artery": ["1", "3", "#ff0000", "#00ff00", "#ffffff"],
                             "vein": ["2", "3", "#0000ff", "#00ff00", "#ffffff"]})  # fmt: skip
_BUDAI = "Budai et al., Robust vessel segmentation in fundus images, International Journal of Biomedical Imaging, 2013"
_hrf = partial(
    _retinal,
    layout=named.HRF,
    annotators=1,
    split_lists=named.HRF_SPLITS,
    counts={"train": 15, "test": 30},
    tile_size=512,  # vessels are six times as wide as DRIVE's
    licence="CC BY 4.0",
    citation=_BUDAI,
    url="https://www5.cs.fau.de/research/data/fundus-images",
    limits="HRF is 45 photographs of one camera (45 degrees, 3504 x 2336 pixels): 15 of healthy eyes, 15 with diabetic "
    "retinopathy, 15 with glaucoma.",
)

CATALOG: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        _retinal(
            name="drive",
            title="DRIVE: Digital Retinal Images for Vessel Extraction",
            reader=named.read_drive,
            layout=named.DRIVE,
            hub_id="Zomba/DRIVE-digital-retinal-images-for-vessel-extraction",
            counts={"train": 20, "test": 20},
            licence="research and teaching only, see the site",
            citation="Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23, 2004",
            url="https://drive.grand-challenge.org",
            note="20 images are trained on and 20 tested, as its authors split them; masks are the first person's, "
            "unless `annotator` is 2.",
            limits="DRIVE is 40 photographs of one camera (45 degrees, 565 x 584 pixels) from a Dutch screening "
            "programme; 7 show early diabetic retinopathy, the others no sign of it.",
        ),
        _retinal(
            name="drive_av",
            title="DRIVE with arteries and veins",
            reader=named.read_drive_av,
            layout=named.DRIVE_AV,
            annotators=1,
            counts={"train": 20, "test": 20},
            classes=_ARTERY_VEIN,
            licence="research and teaching only, see the sites",
            citation="images: Staal et al., IEEE TMI 23, 2004; arteries and veins of RITE: Hu et al., Automated "
            "separation of binary overlapping trees in low-contrast color retinal images, MICCAI 2013; of other labels "
            "see your copy",
            url="https://drive.grand-challenge.org",
            note="20 images are trained on and 20 tested. Labels of the training images lie on the first annotator's "
            "vessels, those of the test images on the second's. Crossing and uncertain pixels are both classes; "
            "--classes artery=1 vein=2 ignore=3 leaves them out.",
            limits="DRIVE is 40 photographs of one camera (45 degrees, 565 x 584 pixels) from a Dutch screening "
            "programme; 7 show early diabetic retinopathy, the others no sign of it.",
        ),
        _hrf(
            name="hrf",
            title="HRF: High-Resolution Fundus images",
            reader=named.read_hrf,
            note="The first 5 images of each kind are trained on, the other 30 tested.",
        ),
        _hrf(
            name="hrf_av",
            title="HRF with arteries and veins",
            reader=named.read_hrf_av,
            classes=_ARTERY_VEIN,
            citation=f"photographs: {_BUDAI}; arteries and veins: see your copy",
            licence="CC BY 4.0 (photographs); of the labels of arteries and veins see your copy",
            note="The first 5 images of each kind are trained on, the other 30 tested. Crossing and uncertain pixels "
            "are both classes; --classes artery=1 vein=2 ignore=3 leaves them out.",
        ),
        DatasetSpec(
            name="kvasir",
            title="Kvasir-SEG: a segmented polyp dataset",
            reader=named.read_kvasir,
            layout=named.KVASIR,
            layout_is_free=True,
            hub_id="Angelou0516/kvasir-seg",
            view="full",
            counts={"all": 1000},
            test_fraction=0.12,
            licence="research and education only, see the site",
            citation="Jha et al., Kvasir-SEG: a segmented polyp dataset, MMM 2020, arXiv:1911.07069",
            url="https://datasets.simula.no/kvasir-seg",
            note="880 train and 120 test images: the authors' list where it lies beside the images, else a fixed draw.",
            limits="Every image of Kvasir-SEG shows a polyp, so an adapter has never seen a colon without one; its "
            "masks were stored as JPEG and are taken at half brightness.",
        ),
        _retinal(
            name="stare",
            title="STARE: Structured Analysis of the Retina",
            reader=named.read_stare,
            layout=named.STARE,
            hub_id="Zomba/STARE-structured-analysis-of-the-retina",
            split_lists=named.STARE_SPLITS,
            counts={"train": 16, "test": 4},
            licence="research only, see the site",
            citation="Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing of a "
            "matched filter response, IEEE TMI 19, 2000",
            url="https://cecas.clemson.edu/~ahoover/stare",
            note="16 images are trained on and 4 tested; split idiap is 10 and 10. The field of view is estimated.",
            limits="STARE is 20 scanned slides of one camera (35 degrees, 700 x 605 pixels), half of them of diseased "
            "retinas.",
        ),
        _retinal(
            name="chase_db1",
            title="CHASE_DB1: retinal vessel reference dataset",
            reader=named.read_chase_db1,
            layout=named.CHASE_DB1,
            hub_id="Zomba/CHASE_DB1-retinal-dataset",
            split_lists=named.CHASE_DB1_SPLITS,
            counts={"train": 20, "test": 8},
            licence="CC BY 4.0",
            citation="Fraz et al., An ensemble classification-based approach applied to retinal blood vessel "
            "segmentation, IEEE TBME 59, 2012",
            url="https://researchdata.kingston.ac.uk/96",
            note="The first 20 images are trained on and 8 tested; split idiap is the last 8 and the first 20. The "
            "field of view is estimated.",
            limits="CHASE_DB1 is 28 photographs of one camera (30 degrees, 999 x 960 pixels): both eyes of 14 "
            "children.",
        ),
        DatasetSpec(
            name="sl_ssdd",
            title="SL-SSDD: sea and land in SAR images",
            reader=named.read_sl_ssdd,
            layout=named.SL_SSDD,
            augmentation=_SAR,
            counts={"train": 928, "test": 232},
            citation="masks: SL-SSDD; images: Zhang et al., SAR Ship Detection Dataset (SSDD), Remote Sensing 13, 2021",
            note="Sea is the foreground.",
            limits="Its images are radar amplitudes shown as grey: an adapter knows nothing of colour, nor of optical "
            "images.",
        ),
        DatasetSpec(
            name="synthetic",
            title="Synthetic curvilinear trees, cracks, roads and blobs",
            counts={"train": 200, "validation": 20, "test": 40},
            thin_structures=True,
            licence="Apache-2.0 (made by this package)",
            note="Drawn on the fly, always the same images; other counts or sizes: replace fields of this entry.",
            limits="Its images are drawings: what an adapter trained on them is worth on photographs has to be "
            "measured.",
        ),
        DatasetSpec(
            name="synthetic_av",
            title="Synthetic fundus photographs with arteries and veins",
            kinds=("arteries_veins",),
            classes=read_classes(["artery", "vein"]),
            counts={"train": 200, "validation": 20, "test": 40},
            thin_structures=True,
            licence="Apache-2.0 (made by this package)",
            note="Drawn on the fly, always the same images. Where they cross, a pixel is artery and vein.",
            limits="Its images are drawings: what an adapter trained on them is worth on photographs has to be "
            "measured.",
        ),
        DatasetSpec(
            name="folder",
            title="A folder of images and masks",
            reader=folder.read_folder,
            layout=folder.LAYOUT,
            layout_is_free=True,
            note="Without split folders a tenth is held out as test, the same whatever the seed.",
        ),
    )
}


def find_dataset(name_or_path: str | DatasetSpec, data_dir: str | None = None) -> tuple[DatasetSpec, Path | str | None]:
    """Find the catalogue entry of a name, a path or a Hub id as for `load_segmentation_data`, and where its data are.

    Returns:
        The entry, under its own name for a path or a Hub id that the catalogue does not know, and its data: a path, a
        Hub id, or None for generated sets. Nothing is read or downloaded yet.

    Raises:
        DataError: The name is unknown, the path is absent or of a wrong kind, or none is given and needed.

    >>> find_dataset("synthetic")[0].counts["test"]
    40
    """
    spec = name_or_path if isinstance(name_or_path, DatasetSpec) else known_dataset(name_or_path)
    if spec is None:
        path = Path(name_or_path).expanduser()
        if path.exists():
            if data_dir is not None:
                problem = f"data_dir {data_dir} goes with a name such as 'folder'"
                raise DataError(f"{name_or_path} is a path already; {problem}")
            named = replace(CATALOG["folder"], name=archive_stem(path) or path.resolve().name)
            return named, _existing(path, CATALOG["folder"])
        if not _HUB_ID.fullmatch(name_or_path):
            raise DataError(
                f"unknown data set {name_or_path!r}: neither a folder that exists, nor one of "
                f"{', '.join(sorted(CATALOG))}, nor an id on the Hub (org/name)"
            )
        spec = replace(CATALOG["folder"], name=name_or_path.split("/")[1], hub_id=name_or_path)
    if spec.reader is None:
        if data_dir is not None:
            raise DataError(f"data set {spec.name!r} is generated and takes no data_dir, got {data_dir}")
        return spec, None
    if data_dir is not None:
        return spec, _existing(Path(data_dir).expanduser(), spec)
    if spec.hub_id is None:
        raise DataError(f"data set {spec.name!r} needs data_dir (--data_dir), a folder with:\n{spec.layout}")
    return spec, spec.hub_id


def known_dataset(name_or_path: str) -> DatasetSpec | None:
    """The catalogue's entry of a name, or of a Hub id that is no path here; None for all else.

    >>> known_dataset("Angelou0516/kvasir-seg").name
    'kvasir'
    """
    name = name_or_path.lower()
    if name in CATALOG:
        return CATALOG[name]
    of_id = next((known for known in CATALOG.values() if known.hub_id and known.hub_id.lower() == name), None)
    return None if of_id and Path(name_or_path).exists() else of_id


def _existing(path: Path, spec: DatasetSpec) -> Path:
    suffix = path.suffix.lower()
    is_table = spec.reader is folder.read_folder and suffix in table.TABLE_SUFFIXES
    if path.is_dir() or (path.exists() and (archive_stem(path) or is_table or suffix in UNREADABLE_ARCHIVE_SUFFIXES)):
        return path
    problem = "is neither a folder nor an archive" if path.exists() else "does not exist"
    if path.exists() and suffix in (".xlsx", ".xls", ".ods"):
        problem = "is a spreadsheet; save it as CSV"
    raise DataError(f"{path} {problem}. Data set {spec.name!r} needs a folder or an archive with:\n{spec.layout}")
