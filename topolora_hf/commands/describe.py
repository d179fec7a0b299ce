"""`topolora describe`: what a data set holds, in numbers and in one picture."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.arguments import DataArguments
from ..data.catalog import find_dataset
from ..data.intensity import evenly_spread
from ..data.records import some
from ..files import output_folder, write_file
from ..settings import option

_WIDTH_PERCENTILES = (5, 50, 95)


@dataclass(kw_only=True)
class DescribeArguments(DataArguments):
    """Describe a data set, and draw some of it."""

    output_dir: str = option("description", "where description.json and contact_sheet.png are written", group="output")
    images: int = option(12, "images that the contact sheet shows", group="output", at_least=1)
    measured: int = option(200, "images of each split that are measured, evenly spread", group="output", at_least=1)


def describe(args: DescribeArguments) -> dict:
    """Write description.json and contact_sheet.png, print the description, and return it."""
    spec, _ = find_dataset(args.dataset, args.data_dir)
    data = args.load()
    from ..pictures.overlay import contact_sheet

    description = {
        "dataset": spec.name,
        "title": spec.title,
        "view": spec.view,
        "tile_size": spec.tile_size,
        "intensity": None if data.intensity is None else vars(data.intensity),
        "labels": list(data.labels),
        "exclusive": data.exclusive,
        "structure": dict(data.structure),
        "values": {value: {"share": share, "taken_for": what} for value, (share, what) in data.levels.items()},
        "splits": {split: describe_rows(rows, args.measured, split, data.labels) for split, rows in data.items()},
        "remarks": list(data.remarks),
    }
    output = output_folder(args.output_dir)
    write_file(output / "description.json", (json.dumps(description, indent=2) + "\n").encode())
    places = [(split, number) for split, rows in data.items() for number in range(len(rows))]
    shown = [(split, data[split][number]) for split, number in evenly_spread(places, args.images)]
    sizes = ["{1}x{0}".format(*row["valid_mask"].shape) for _, row in shown]
    captions = [f"{split}: {row['id']}  {size}" for (split, row), size in zip(shown, sizes, strict=True)]
    drawn = [(caption, row) for caption, (_, row) in zip(captions, shown, strict=True)]
    sheet = contact_sheet(drawn, labels=data.labels)
    sheet.save(output / "contact_sheet.png")
    print(as_text(description))
    print(f"wrote {output / 'description.json'} and {output / 'contact_sheet.png'}")
    return description


def describe_rows(
    rows: Sequence[Mapping], limit: int = 200, name: str = "rows", labels: Sequence[str] = ("foreground",)
) -> dict:
    """Measure a split: counts and sizes, and what its masks and images look like.

    Args:
        rows: Decoded rows.
        limit: How many of them are measured, evenly spread.
        name: What the progress bar calls them.
        labels: The names of the K maps of their masks.

    Returns:
        `images`, `measured`; `sizes` (count by "WIDTHxHEIGHT"); `foreground_fraction` (mean, least, most; of the field
        of view); `empty_masks`; `width_px` (5th, 50th and 95th percentile of the structures' width along their
        centrelines, None without foreground); `field_of_view_fraction` (mean); `intensity` (mean, and the 1st and 99th
        percentile, of 0 to 255). Of several classes, foreground is what has any, and `classes` has the
        `foreground_fraction`, `empty_masks` and `width_px` of each. All but `images` are of the measured rows.
    """
    from tqdm import tqdm

    numbers = evenly_spread(range(len(rows)), limit)
    measured = [_measure(rows[n]) for n in tqdm(numbers, f"measuring {name}", leave=False, disable=None)]
    sizes, areas, views, light = zip(*measured, strict=True)
    foreground, *of_class = (_area_facts(of_map) for of_map in zip(*areas, strict=True))
    return {
        "images": len(rows),
        "measured": len(measured),
        "sizes": dict(Counter(sizes).most_common()),
        **foreground,
        **({"classes": dict(zip(labels, of_class, strict=True))} if of_class else {}),
        "field_of_view_fraction": float(np.mean(views)),
        "intensity": dict(zip(("mean", "low", "high"), map(float, np.mean(light, axis=0)), strict=True)),
    }


def _area_facts(areas: Sequence[tuple[float, np.ndarray]]) -> dict:
    """What is told of a map, from its share of the field of view and its widths in each row."""
    fractions, widths = zip(*areas, strict=True)
    widths = np.concatenate(widths)
    return {
        "foreground_fraction": {"mean": float(np.mean(fractions)), "least": min(fractions), "most": max(fractions)},
        "empty_masks": sum(fraction == 0 for fraction in fractions),
        "width_px": [float(width) for width in np.percentile(widths, _WIDTH_PERCENTILES)] if widths.size else None,
    }


def _measure(row: Mapping) -> tuple[str, list[tuple[float, np.ndarray]], float, tuple[float, float, float]]:
    """Size; share and widths of the foreground, and of each of several classes; field of view; intensity."""
    masks, view = row["mask"] > 0, row["valid_mask"]
    maps = [masks.any(axis=0), *(masks if len(masks) > 1 else ())]
    areas = [(float(mask[view].mean()) if view.any() else 0.0, _widths(mask)) for mask in maps]
    light = (np.nan,) * 3
    if view.any():
        light = (row["image"][view].mean(), *np.percentile(row["image"][view], (1, 99)))
    return "{1}x{0}".format(*view.shape), areas, float(view.mean()), light


def _widths(mask: np.ndarray) -> np.ndarray:
    """The width in pixels at each pixel of the centrelines."""
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import skeletonize

    if not mask.any() or mask.all():
        return np.zeros(0)
    # Padded, so that a structure cut by the border is as wide there as elsewhere; a pixel's centre is half a pixel
    # from its edge, hence the 1.
    return 2 * distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1][skeletonize(mask)] - 1


def as_text(description: Mapping) -> str:
    """The description for people."""
    lines = [
        f"{description['title']} ({description['dataset']}); view {description['view']}, tiles of "
        f"{description['tile_size']} pixels"
    ]
    for split, facts in description["splits"].items():
        sizes = some([f"{size} ({count})" for size, count in facts["sizes"].items()])
        light = facts["intensity"]
        lines += [
            f"{split}: {facts['images']} images"
            + (f" ({facts['measured']} measured)" * (facts["measured"] < facts["images"])),
            f"  sizes           {sizes}",
            *_area_lines("foreground", facts),
            *(line for name, of_class in facts.get("classes", {}).items() for line in _area_lines(name, of_class)),
            f"  field of view   {facts['field_of_view_fraction']:.1%} of the image",
            f"  intensity       mean {light['mean']:.0f}, from {light['low']:.0f} to {light['high']:.0f} (1 %, 99 %)",
        ]
    if values := description["values"]:
        lines.append("values of the masks (share of all pixels):")
        lines += [f"  {value:<15} {facts['share']:.2%}  {facts['taken_for']}" for value, facts in values.items()]
    if structure := description["structure"]:
        lines.append("structure in masks: " + ", ".join(f"{level} ({count})" for level, count in structure.items()))
    if description["intensity"]:
        lines.append("more than 8 bits: {transform} from {low:g} to {high:g}".format(**description["intensity"]))
    return "\n".join(lines + [f"note: {remark}" for remark in description["remarks"]])


def _area_lines(name: str, facts: Mapping) -> list[str]:
    share, width = facts["foreground_fraction"], facts["width_px"]
    return [
        f"  {name:<15} {share['mean']:.2%} of the field of view ({share['least']:.2%} to {share['most']:.2%}), "
        f"{facts['empty_masks']} empty masks",
        "  widths          "
        + ("none" if width is None else "{:.1f}, {:.1f}, {:.1f} px".format(*width) + " (5 %, median, 95 %)"),
    ]
