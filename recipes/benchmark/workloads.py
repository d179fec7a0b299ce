"""What the benchmark's rows do: each function builds one `Workload` in the process that measures it."""

from collections.abc import Callable
from functools import partial
from itertools import count
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import SamModel

from benchmark.baselines import authors_loss, pooled_cldice_loss, pooled_skeleton
from benchmark.measure import Workload, count_flops
from benchmark.networks import (
    ITERATIONS,
    NetworkShape,
    authors_network,
    fill_with_random_weights,
    our_network,
    transformers_network,
)
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.data.tiles import TileDataset
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.report import score_image
from topolora_hf.network.encoder import run_layer
from topolora_hf.objective.losses import cldice_loss
from topolora_hf.objective.soft_skeleton import compile_skeleton, soft_skeletonize
from topolora_hf.synthetic import draw_synthetic

_OVERLAP = 0.5  # of neighbouring tiles, where an image is larger than one


def encoder_layer(shape: NetworkShape, form: str, windowed: bool, dtype: str, batch: int, device: str) -> Workload:
    """One layer of the encoder, forward and backward to its input; its weights are frozen.

    Args:
        shape: of the network; `layers` does not matter.
        form: `"ours"`, or transformers' `"sdpa"` or `"eager"`.
        windowed: a layer of windows in place of one of global attention.
        dtype: `"float32"`, or `"bfloat16"` by autocast.
        batch: images.
        device: `"cpu"` or `"cuda"`.
    """
    two_layers = NetworkShape(shape.model, shape.image_size, layers=2)  # the second one's attention is global
    number = 0 if windowed else 1
    sam = fill_with_random_weights(SamModel(two_layers.config("sdpa" if form == "ours" else form)))
    layer = sam.vision_encoder.layers[number].requires_grad_(False).to(device)
    forward = partial(run_layer, layer) if form == "ours" else layer
    tokens, channels = sam.vision_encoder.pos_embed.shape[1], sam.vision_encoder.pos_embed.shape[3]
    size = (batch, tokens, tokens, channels)

    def run(hidden_states: torch.Tensor, cotangent: torch.Tensor) -> None:
        with _autocast(device, dtype):
            output = forward(hidden_states)
        output.backward(cotangent.to(output.dtype))

    with torch.device("meta"):
        reference = SamModel(two_layers.config("eager")).vision_encoder.layers[number].requires_grad_(False)
        hidden_states = torch.empty(size, requires_grad=True)
        flops = count_flops(lambda: reference(hidden_states).sum().backward())
    # Input and output, their two gradients, and the weights in both directions.
    return Workload(
        run,
        draw=lambda: (torch.randn(size, device=device, requires_grad=True), torch.randn(size, device=device)),
        flops=flops,
        least_bytes=4 * 4 * hidden_states.numel() + 2 * _parameter_bytes(layer),
    )


def skeleton(form: str, size: int, batch: int, iterations: int, device: str) -> Workload:
    """A soft skeleton of (batch, 1, size, size), forward and backward; fresh input and cotangent each time.

    Args:
        form: `"ours"`, `"monai"` or `"original"`.
        size: pixels a side.
        batch: maps.
        iterations: rounds after the first opening.
        device: `"cpu"` or `"cuda"`.
    """
    if form == "monai":
        from monai.losses.cldice import soft_skel as function
    else:
        function = {"ours": soft_skeletonize, "original": pooled_skeleton}[form]

    def run(image: torch.Tensor, cotangent: torch.Tensor) -> None:
        function(image, iterations).backward(cotangent)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        image, cotangent = torch.rand(2, batch, 1, size, size, device=device)
        return image.requires_grad_(), cotangent

    # Forward: the input read, the skeleton written. Backward: input and cotangent read, the gradient written.
    return Workload(run, draw, least_bytes=5 * 4 * batch * size**2)


def with_compilation(mode: str, build: Callable[..., Workload], *arguments) -> Workload:
    """`build(*arguments)` in a process whose soft skeletons are compiled: `"always"` or `"never"`."""
    compile_skeleton(mode == "always")
    return build(*arguments)


def cldice(form: str, size: int, batch: int, iterations: int, device: str) -> Workload:
    """The clDice loss of (batch, 1, size, size) with soft skeletons of both, forward and backward.

    Args: as of `skeleton`.
    """
    if form == "monai":
        from monai.losses.cldice import SoftclDiceLoss

        loss = SoftclDiceLoss(iter_=iterations)
    else:
        loss = partial({"ours": cldice_loss, "original": pooled_cldice_loss}[form], iterations=iterations)

    def run(probabilities: torch.Tensor, target: torch.Tensor) -> None:
        loss(probabilities, target).mean().backward()

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        probabilities = torch.rand(batch, 1, size, size, device=device, requires_grad=True)
        return probabilities, draw_target(batch, size, device)

    # Forward: both read. Backward: both read again, the gradient written.
    return Workload(run, draw, least_bytes=5 * 4 * batch * size**2)


def training_step(shape: NetworkShape, form: str, dtype: str, batch: int, device: str, **settings) -> Workload:
    """A training step of the paper's network: forward, the three losses, every gradient; without the optimizer's step.

    Args:
        shape: of the network.
        form: `"ours"`, `"authors"`, or transformers' `"sdpa"` or `"eager"`.
        dtype: `"float32"`, or `"bfloat16"` by autocast.
        batch: images.
        device: `"cpu"` or `"cuda"`.
        **settings: further arguments of `our_network`; with `preset` or `lora_targets`, which are other work, no limit.
    """
    network, step = build_step(shape, form, **settings)
    network.to(device)
    size = shape.config().image_size

    def run(pixel_values: torch.Tensor, target: torch.Tensor) -> None:
        network.zero_grad(set_to_none=True)
        with _autocast(device, dtype):
            loss = step(pixel_values, target)
        loss.backward()

    # As the training loop gives them to its network.
    order = torch.channels_last if form == "ours" else torch.contiguous_format

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=order)
        return images, draw_target(batch, size, device)

    if settings.keys() & {"preset", "lora_targets"}:
        return Workload(run, draw, items=batch)
    least_bytes = 2 * _parameter_bytes(network)  # the weights, in both directions
    return Workload(run, draw, items=batch, flops=step_flops(shape, batch), least_bytes=least_bytes)


def build_step(shape: NetworkShape, form: str, **settings) -> tuple[nn.Module, Callable]:
    """A network with random weights, and its loss as a function of pixel values and target: as of `training_step`."""
    if form == "ours":
        network = our_network(shape, **settings)
        loss = partial(_own_loss, network)
    else:
        network = authors_network(shape) if form == "authors" else transformers_network(shape, form)
        loss = partial(_loss_by_baseline, network)
    return fill_with_random_weights(network), loss


def step_flops(shape: NetworkShape, batch: int) -> int:
    """FLOPs of the training step by its definition, whoever runs it and whatever is computed twice to save memory."""
    size = shape.config().image_size
    with torch.device("meta"):
        network = authors_network(shape)
        images, target = torch.empty(batch, 3, size, size), torch.empty(batch, 1, size, size)
        return count_flops(lambda: _loss_by_baseline(network, images, target).backward())


def prediction(shape: NetworkShape, form: str, dtype: str, size: int, device: str) -> Workload:
    """The probability map of one image (size x size) in tiles of the network's size, LoRA merged.

    Args:
        shape: of the network.
        form: `"ours"`, or transformers' `"sdpa"` or `"eager"`.
        dtype: `"float32"`, `"bfloat16"` by autocast, or `"int8"`: the encoder's linear layers quantised dynamically.
        size: of the image, pixels a side.
        device: `"cpu"` or `"cuda"`; `"cpu"` for int8.
    """
    adapter = our_network(shape) if form == "ours" else transformers_network(shape, form)
    network = fill_with_random_weights(adapter).merge_and_unload()
    if dtype == "int8":
        encoder = network.sam.vision_encoder
        torch.ao.quantization.quantize_dynamic(encoder, {nn.Linear}, dtype=torch.qint8, inplace=True)
    tile = shape.config().image_size
    settings = AdapterSettings("benchmark", "paper", image_size=tile, tile_size=tile, detail_channels=0)
    precision = "bfloat16" if dtype == "bfloat16" else "float32"
    predictor = Predictor(network, settings, device=device, overlap=_OVERLAP, dtype=precision)
    generator = np.random.default_rng(0)
    tiles = (max(0, ceil((size - tile) / (tile * (1 - _OVERLAP)))) + 1) ** 2
    return Workload(
        predictor.probability,
        draw=lambda: (generator.integers(0, 256, (size, size, 3), dtype=np.uint8),),
        flops=tiles * _forward_flops(shape),
        least_bytes=_parameter_bytes(network),
    )


def tiles(size: int) -> Workload:
    """Augmented training tiles with skeletons from decoded synthetic images, in one process."""
    rows = [draw_synthetic(number, size=size + 128) for number in range(4)]
    dataset = TileDataset(rows, size, tiles_per_image=4)
    epochs = count()

    def draw() -> tuple:
        dataset.set_epoch(next(epochs))
        return ()

    return Workload(lambda: [dataset[number] for number in range(len(dataset))], draw, items=len(dataset))


def scores(size: int) -> Workload:
    """All metrics of one vessel image."""
    sample = draw_synthetic(0, size=size, kinds=["vessels"])
    mask = sample["mask"][0]
    probability = 0.7 * mask + 0.3 * np.random.default_rng(0).random(mask.shape)
    return Workload(lambda: score_image(probability, mask, sample["valid_mask"]))


def draw_target(batch: int, size: int, device: str) -> torch.Tensor:
    """(batch, 1, size, size) masks of random blobs, some ten pixels wide, never empty."""
    coarse = torch.rand(batch, 1, size // 16, size // 16, device=device)
    coarse = coarse / coarse.amax((-2, -1), keepdim=True)
    return (F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False) > 0.6).float()


def _own_loss(network: nn.Module, pixel_values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return network(pixel_values=pixel_values, labels=target).loss


def _loss_by_baseline(network: nn.Module, pixel_values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return authors_loss(network(pixel_values=pixel_values).logits, target, ITERATIONS)


@torch.no_grad()
def _forward_flops(shape: NetworkShape) -> int:
    size = shape.config().image_size
    with torch.device("meta"):
        network = authors_network(shape)
        return count_flops(lambda: network(torch.empty(1, 3, size, size)))


def _autocast(device: str, dtype: str) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


def _parameter_bytes(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())
