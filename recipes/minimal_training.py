"""The training loop to copy: plain Accelerate around this package's public parts.

    python recipes/minimal_training.py
    python recipes/minimal_training.py --dataset path/to/folder --base tiny --max_steps 600

`topolora train` does the same, and resumes, validates, writes scores, pictures and a card.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import HfArgumentParser, get_cosine_schedule_with_warmup

from topolora_hf import (
    AdapterSettings,
    Predictor,
    TileDataset,
    TopoLoss,
    TopoSamForSegmentation,
    create_adapter,
    load_segmentation_data,
    save_adapter,
)
from topolora_hf.data.tiles import largest_half_width
from topolora_hf.metrics import score_images, score_set


@dataclass
class Arguments:
    """Settings; none is required."""

    dataset: str = "synthetic"
    data_dir: str | None = None
    base: str = "tiny-random"
    preset: str = "topolora"
    output_dir: str = "runs/minimal"
    tile_size: int = 128
    batch_size: int = 4
    max_steps: int = 300
    learning_rate: float = 1e-3
    seed: int = 0
    num_workers: int = 2
    scored_images: int = 8


def main(args: Arguments) -> dict:
    set_seed(args.seed)
    accelerator = Accelerator(step_scheduler_with_optimizer=False)

    # Images and masks: {"train": rows, "validation": rows, "test": rows}; a row is decoded when it is read.
    splits = load_segmentation_data(args.dataset, args.data_dir)
    tiles_per_image = -(-args.max_steps * args.batch_size * accelerator.num_processes // len(splits["train"]))
    tiles = TileDataset(splits["train"], args.tile_size, tiles_per_image=tiles_per_image, seed=args.seed)
    loader = DataLoader(tiles, args.batch_size, shuffle=True, drop_last=True, num_workers=args.num_workers)

    # A base, frozen, and an adapter around it: LoRA, spatial adapter, decoder and detail branch are trained.
    base = args.base if "/" in args.base else f"topolora_hf/{args.base}"
    network = TopoSamForSegmentation.from_pretrained(base, image_size=args.tile_size, tile_size=args.tile_size)
    model = create_adapter(network, args.preset)

    # BCE + Dice + 0.5 clDice, with as many rounds of erosion as the widest structure needs.
    criterion = TopoLoss(iterations=min(largest_half_width(splits["train"]), 10), schedule="ramp")
    network.criterion = criterion

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=1e-4)
    scheduler = get_cosine_schedule_with_warmup(optimizer, args.max_steps // 20, args.max_steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    model.train()
    bar = tqdm(loader, total=args.max_steps, disable=not accelerator.is_main_process)
    for step, batch in enumerate(bar):
        if step == args.max_steps:
            break
        criterion.progress = step / args.max_steps
        truth = {name: batch[name] for name in ("labels", "valid_mask", "skeleton")}
        loss = model(pixel_values=batch["pixel_values"], **truth).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}")

    # What is published: the adapter, and the settings with which it predicts.
    settings = AdapterSettings.of_network(network, preset=args.preset, dataset=Path(args.dataset).name)
    settings.intensity, settings.bands = splits.intensity, splits.bands
    scores = {}
    if accelerator.is_main_process:
        directory = Path(args.output_dir)
        save_adapter(accelerator.unwrap_model(model), settings, directory)
        predictor = Predictor(accelerator.unwrap_model(model), settings)
        split = "test" if "test" in splits else "validation"
        rows = (splits[split][number] for number in range(min(args.scored_images, len(splits[split]))))
        scored = ({**row, "mask": row["mask"][0], "probability": predictor(row["image"]).probability} for row in rows)
        scores = score_set(score_images(scored))
        print(f"wrote {directory}; Dice {scores['dice']:.3f} and clDice {scores['cldice']:.3f} of {scores['n']} images")
    accelerator.end_training()
    return scores


if __name__ == "__main__":
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    main(arguments)
