"""Whether two training steps are the same step: every gradient of one against the other's."""

import math
import warnings

import torch

from benchmark.networks import NetworkShape, trained_parameters
from benchmark.workloads import build_step, draw_target


def compare_gradients(shape: NetworkShape, batch: int, device: str, threads: int) -> dict[str, dict]:
    """The largest relative difference of float32 gradients to those of the authors' form.

    Erosions, dilations and ReLU choose between values that may differ by less than rounding: each choice that falls the
    other way moves some gradients by up to some 1e-4. What transformers' form differs by shows how much that is.

    Returns:
        For `"ours"`, `"ours-checkpointing"` and `"sdpa"` (transformers): `difference` as of `largest_difference`, and
        `parameter`, its name.
    """
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # as in `measure`
    reference = step_gradients(shape, batch, device, "authors")
    found = {}
    for name, form, settings in (
        ("ours", "ours", {}),
        ("ours-checkpointing", "ours", {"checkpointing": True}),
        ("sdpa", "sdpa", {}),
    ):
        difference, parameter = largest_difference(step_gradients(shape, batch, device, form, **settings), reference)
        found[name] = {"difference": difference, "parameter": parameter}
    return found


def step_gradients(shape: NetworkShape, batch: int, device: str, form: str, **settings) -> dict[str, torch.Tensor]:
    """Gradients of one step on seeded input, by canonical name; arguments as of `workloads.training_step`."""
    network, loss = build_step(shape, form, **settings)
    network.to(device)
    size = shape.config().image_size
    torch.manual_seed(0)
    loss(torch.randn(batch, 3, size, size, device=device), draw_target(batch, size, device)).backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in trained_parameters(network).items()
    }


def largest_difference(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference of an entry, relative to the largest entry of its parameter's gradient.

    A key's bias shifts all scores of a query alike, so its gradient is zero but for rounding: it is compared on the
    scale of its weight's. What only one of the two trains must have a gradient of zero.

    Returns:
        The difference, and the name of the parameter.
    """
    differences = {}
    for name in gradients.keys() | reference.keys():
        one, other = (side.get(name, torch.zeros(())) for side in (gradients, reference))
        scale_name = name.replace("k_proj.bias", "k_proj.weight")
        scale = max(side[scale_name].abs().max().item() for side in (gradients, reference) if scale_name in side)
        difference = (one - other).abs().max().item()
        relative = difference / scale if difference else 0.0
        differences[name] = math.inf if math.isnan(relative) else relative
    worst = max(differences, key=differences.get)
    return differences[worst], worst
