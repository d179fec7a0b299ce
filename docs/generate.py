"""Write docs/reference/settings.md from the settings dataclasses of the commands.

    python docs/generate.py

Each setting of `topolora train` needs a line in `WHEN`: when a user should change it. A setting without one, and a line
without its setting, are errors.
"""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path

from topolora_hf.cli import COMMANDS
from topolora_hf.settings import GROUPS

PAGE = Path(__file__).parent / "reference" / "settings.md"

WHEN = {
    "dataset": "Always.",
    "data_dir": "Your copy of a named data set is on this disk.",
    "layout": "`topolora describe` does not find your images, masks or columns.",
    "protocol": "Only to reproduce the paper's table.",
    "split": "Your scores must compare with the published baselines'.",
    "annotator": "To train on, or score against, the second annotator.",
    "fov": "`auto` for fundus photographs of your own; `none` if the estimate is wrong.",
    "mask_values": "Masks of several classes or objects: `1` takes one, `all` takes all. The error names them.",
    "ignore": "Masks mark what nobody labelled: 255 in VOC's and QGIS's convention.",
    "invert_masks": "Structure is dark on bright ground.",
    "classes": "Masks of several classes. See [Several classes](../how-to/several-classes.md).",
    "missing_mask": "`empty` if images without a mask file show nothing to find.",
    "bands": "Satellite images: `4 3 2`; microscopy: the channel.",
    "intensity": "Radar: `transform=sqrt` or `log`. Others: if `topolora describe` draws them too dark.",
    "validation_fraction": "0 to train on every image, if the number of steps is known; higher for few images.",
    "seed": "Repeat a run with seeds 0, 1 and 2 to see what chance does.",
    "skip_bad": "You have read the list of unusable images and can do without them.",
    "base": "`tiny` for thin structures, `vessels` for retinal vessels, `tiny-regions` for regions; "
    "stock SAM on a GPU.",
    "preset": "`detail_only` for thin structures; `paper` and `seglab` to compare; `full` for a base of your own.",
    "image_size": "Less than the base's to save time and memory.",
    "tile_size": "128 for quick runs on a CPU; larger if a structure cannot be told from what a tile shows.",
    "view": "`full` for regions such as polyps, lesions and water.",
    "rank": "Seldom: 4 to 32 have the same scores on vessels.",
    "lora": "Seldom: most variants differ in how LoRA starts. `dora` costs time (PEFT's own layer).",
    "lora_targets": "A step is too slow: LoRA in the last 4 of ViT-B's 12 layers takes 7.8 s instead of 13.9 s.",
    "decoder_init": "`scratch` only for the paper's text.",
    "max_steps": "600 for a first look (15 minutes with `tiny`); more as long as the validation score rises.",
    "batch_size": "Lower if memory is short; 8 for tiles of 128 pixels.",
    "gradient_accumulation_steps": "Raise it when you lower `batch_size`.",
    "learning_rate": "1e-3 for polyps; lower if the loss is not finite or jumps.",
    "detail_learning_rate": "1e-3 when you train on from a merged adapter, or with few images.",
    "weight_decay": "Seldom: 0.3 had the same scores.",
    "augmentation": "`same_scale` in a second run on images of one camera (0.004 Dice); `none` to see the "
    "images as they are.",
    "mixed_precision": "`no` to compare machines with and without bf16; `fp16` on old GPUs.",
    "gradient_checkpointing": "Memory is short: 1.5 GB instead of 2.3 GB, 1.3 times the time.",
    "cldice_weight": "0 for regions; up to 1 if centrelines matter more than area (0.018 clDice on CHASE_DB1).",
    "cldice_schedule": "`fixed` for the paper; `adaptive` ends equal on vessels.",
    "output_dir": "To choose a name, or to keep two runs of the same data set and seed apart.",
    "calibrate": "You need probabilities, or predict on other cameras; `train` with `validation_fraction` 0.",
    "test_time_flips": "The last 0.001 to 0.010 Dice, if four times the time is no matter.",
    "test_time_scales": "`0.8 1 1.25` for cameras whose scale is not certain, in 3.2 times the time.",
    "score_untrained": "You want to know what the training brought.",
    "evaluate_every": "Less than the run's length, to see the score rise; more if validation takes long.",
    "log_every": "More for very long runs.",
    "log_with": "You watch runs in TensorBoard or on a server; `history.csv` is written anyway.",
    "num_workers": "0 to load in the main process; more if a GPU waits for data.",
    "num_threads": "1 for several runs beside each other on one machine.",
    "overwrite": "The run directory holds a run that you do not want.",
    "push_to_hub": "The adapter is to be published.",
    "hub_model_id": "The repository has another name than the run directory.",
}
"""When to change a setting of `topolora train`."""

_HEAD = """\
# Settings

<!-- Written by docs/generate.py: change the help of a field, or WHEN there, and run it again. -->

Each setting is a flag (`--seed 1`) or a line of a settings file (`seed: 1`); see [commands](commands.md#flags).
A switch is turned on by its name alone (`--overwrite`) and off by `no_` before its name (`--no_overlay`).
"""


def settings_page() -> str:
    """The page as it should be."""
    sections = [_HEAD]
    for command, (dataclass, _) in COMMANDS.items():
        arguments = getattr(import_module(f"topolora_hf.commands.{command}"), dataclass)
        sections.append(f"## topolora {command}\n")
        if command == "train":
            _check_lines({item.name for item in fields(arguments)})
            sections += _table_by_group(arguments)
        else:
            known = {item.name: item for item in fields(_train_arguments())}
            own = [item for item in fields(arguments) if not _is_same(item, known.get(item.name))]
            shared = [f"`{item.name}`" for item in fields(arguments) if _is_same(item, known.get(item.name))]
            sections.append(_table(own, None))
            if shared:
                sections.append(f"As for `topolora train`: {', '.join(shared)}.\n")
    return "\n".join(sections)


def _train_arguments() -> type:
    return getattr(import_module("topolora_hf.commands.train"), COMMANDS["train"][0])


def _is_same(item: Field, other: Field | None) -> bool:
    return other is not None and (item.metadata.get("help"), _default(item)) == (
        other.metadata.get("help"),
        _default(other),
    )


def _check_lines(names: set[str]) -> None:
    without, unknown = sorted(names - WHEN.keys()), sorted(WHEN.keys() - names)
    if without or unknown:
        raise ValueError(f"docs/generate.py: settings without a line in WHEN: {without}; lines without one: {unknown}")


def _table_by_group(arguments: type) -> Iterator[str]:
    by_group = {group: [item for item in fields(arguments) if item.metadata.get("group") == group] for group in GROUPS}
    for group, items in by_group.items():
        if items:
            yield f"### {group.capitalize()}\n"
            yield _table(sorted(items, key=lambda item: item.name != "dataset"), WHEN)


def _table(items: list[Field], when: dict[str, str] | None) -> str:
    """One line a setting: name, default, meaning, and when to change it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    if when is not None:
        lines = ["| setting | default | meaning | when to change it |", "|---|---|---|---|"]
    for item in items:
        cells = [f"`{item.name}`", _default(item), _cell(item.metadata.get("help", ""))]
        lines.append("| " + " | ".join(cells + ([_cell(when[item.name])] if when is not None else [])) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _default(item: Field) -> str:
    if item.default is MISSING and item.default_factory is MISSING:
        return "required"
    default = item.default if item.default_factory is MISSING else item.default_factory()
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, (list, tuple)):
        return " ".join(map(str, default))
    return "" if default is None else f"`{default}`"


if __name__ == "__main__":
    try:
        PAGE.write_text(settings_page(), encoding="utf-8")
    except ValueError as error:
        sys.exit(f"error: {error}")
