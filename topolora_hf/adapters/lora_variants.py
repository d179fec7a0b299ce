"""PEFT's variants of LoRA: where they are put, and how their matrices start.

All but `dora` end in a file of plain LoRA on the base as it is, whatever their start does to the base in PEFT: their
layers are made with PEFT's plain form, and PEFT's own start is computed on a copy of each layer. So every loader reads
them, adapters share the base, `disable_adapter` gives it back, and our in-place layer computes them.
"""

import copy
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, LoraGAConfig
from peft.tuners import lora
from torch import nn

from ..adapter_format.families import FAMILIES
from ..adapter_format.presets import STARTS_FROM_DATA, lora_subtracts_its_start
from ..data.records import some
from ..network.segmenter import TopoSamForSegmentation

_ENCODER = "sam.vision_encoder."
_TOKENS = 2048  # that EVA's decomposition takes of a layer's inputs: more cost time and change little


def find_targets(network: TopoSamForSegmentation, targets: str, trained: Sequence[str]) -> str:
    """Give the pattern of the layers that LoRA is put into, in the form that an adapter's file may hold.

    Args:
        network: the base.
        targets: `ffn`, `attention` or `all` linear layers of the encoder, or a regular expression that matches whole
            names of its linear layers.
        trained: the parts that are trained anyway.

    Raises:
        ValueError: nothing matches, or something that is trained anyway or is no part of the encoder; the message says
            what is there.
    """
    if targets in ("ffn", "attention", "all"):
        return FAMILIES[network.config.family].lora_targets(targets)
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    try:
        names = [name for name in linear if re.fullmatch(targets, name)]
    except re.error as error:
        raise ValueError(f"lora_targets={targets!r} is no regular expression: {error}") from error
    wrong = f"matches none of {len(linear)} linear layers; give"
    if twice := [name for name in names if any(f"{name}.".startswith(f"{part}.") for part in trained)]:
        wrong = f"matches layers that are trained whole: {some(twice)};"
    elif outside := [name for name in names if not name.startswith(_ENCODER)]:
        wrong = f"matches layers outside of the encoder: {some(outside)};"
    elif names:
        return f"{re.escape(_ENCODER)}(?:{'|'.join(re.escape(name.removeprefix(_ENCODER)) for name in names)})"
    there = sorted({re.sub(r"\.\d+\.", ".N.", name) for name in linear if name.startswith(_ENCODER)})
    raise ValueError(
        f"lora_targets={targets!r} {wrong} ffn, attention, all, or a regular expression for whole names of the "
        f"encoder's linear layers: {', '.join(there)}"
    )


class LoraStart:
    """How LoRA's matrices start in a variant that is not PEFT's default.

    Computed before the adapter is made, so that what fails leaves the base as it was; applied to its layers after that.
    """

    def __init__(
        self, network: TopoSamForSegmentation, variant: str, config: LoraConfig, batches: Iterable[Mapping] | None
    ):
        if variant in STARTS_FROM_DATA and batches is None:
            raise ValueError(f"lora={variant!r} starts from training tiles: give batches, the network's arguments")
        self.variant, self.rank, self.matrices = variant, config.r, {}
        config = copy.copy(config)
        config.init_lora_weights = variant
        targets = {
            name: module for name, module in network.named_modules() if re.fullmatch(config.target_modules, name)
        }
        if other := [name for name, module in targets.items() if not isinstance(module, nn.Linear)]:
            raise ValueError(f"lora={variant!r} is for linear layers, but {some(other)} are none: give lora='lora'")
        from_data = {}
        if variant == "eva":
            from_data = _principal_inputs(network, targets, config.r, list(batches))
        elif variant == "lora_ga":
            config.lora_ga_config = LoraGAConfig()
            _attach_gradients(network, config, list(batches))
        for name, linear in targets.items():
            if config.r > min(linear.weight.shape):
                raise ValueError(f"lora={variant!r} of rank {config.r}: {name} has {min(linear.weight.shape)} at most")
            layer = copy.deepcopy(linear)
            vars(linear).pop("_peft_loraga_grad", None)
            made = lora.Linear(layer, "start", config, r=config.r, lora_alpha=config.lora_alpha)
            a, b = made.lora_A["start"].weight, made.lora_B["start"].weight
            self.matrices[name] = (from_data.get(name, a).detach(), b.detach())

    @torch.no_grad()
    def apply(self, network: TopoSamForSegmentation, adapter: str) -> None:
        """Set the matrices of an adapter's layers, and hold what the variant does not train.

        Where PEFT would take the start out of the base's weights (`W - s B0 A0 + s B A`), the layer has twice the rank:
        `[A; A0]` and `[B, -B0]`, the second halves held. In PEFT's words that is the difference to the base as it is,
        which `path_initial_model_for_weight_conversion` makes at the end.
        """
        rank = self.rank
        for name, (start_a, start_b) in self.matrices.items():
            layer = network.get_submodule(name)
            a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
            a[:rank], b[:, :rank] = start_a, start_b
            if lora_subtracts_its_start(self.variant):
                a[rank:], b[:, rank:] = start_a, -start_b
                _hold(a, rank, dim=0)
                _hold(b, rank, dim=1)
            elif self.variant == "mica":
                _hold(b, 0, dim=1)


def _hold(parameter: nn.Parameter, start: int, dim: int) -> None:
    """Keep a parameter's entries from `start` on along `dim` as they are. A copy of the parameter is not held."""

    def without(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient.narrow(dim, start, gradient.shape[dim] - start).zero_()
        return gradient

    parameter.register_hook(without)
    parameter.held = parameter.narrow(dim, start, parameter.shape[dim] - start).numel()


@torch.no_grad()
def _principal_inputs(network: TopoSamForSegmentation, targets: Mapping, rank: int, batches: list[Mapping]) -> dict:
    """Give EVA's A of each layer: the directions in which its inputs vary most (Paischer et al. 2024, 2410.07170).

    All layers keep their rank (PEFT's `rho` 1), so that one number is the adapter's rank. One decomposition of inputs
    from all batches stands in the place of PEFT's, which repeats batches until it has converged: on tiles it may not.
    """
    inputs: dict[str, list[torch.Tensor]] = {name: [] for name in targets}

    def note(name: str, given: tuple[torch.Tensor, ...]) -> None:
        tokens = given[0].flatten(0, -2).float()
        inputs[name].append(tokens[:: max(1, len(tokens) * len(batches) // _TOKENS)])

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: note(name, given))
        for name, module in targets.items()
    ]
    training = network.training
    try:
        with _module_by_module(network):
            for batch in batches:
                network.eval()(pixel_values=batch["pixel_values"])
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    found = {}
    for name, parts in inputs.items():
        rows = torch.cat(parts)
        if len(rows) < rank:
            raise ValueError(f"lora='eva' of rank {rank} needs as many tokens in batches, {name} has {len(rows)}")
        more = min(3 * rank, *rows.shape)  # directions than are taken: these are exact then
        found[name] = torch.pca_lowrank(rows, more, niter=8)[2].T[:rank]
    return found


def _attach_gradients(network: TopoSamForSegmentation, config: LoraConfig, batches: list[Mapping]) -> None:
    """Give each target layer the gradient of its weight, which LoRA-GA starts from (Wang et al. 2024, 2407.05000)."""
    from peft.tuners.lora.loraga import preprocess_loraga

    def step() -> None:
        for batch in batches:
            loss = network(**batch).loss
            if loss is None:
                raise ValueError("lora='lora_ga' starts from the gradient of the loss: give batches with labels")
            loss.backward()

    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    with _module_by_module(network), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # nothing before the first layer is trained
        preprocess_loraga(network, config, step)
    for buffer, before in buffers:
        buffer.copy_(before)


@contextmanager
def _module_by_module(network: TopoSamForSegmentation) -> Iterator[None]:
    """Run the encoder by its modules, whose hooks our own computation passes by."""
    config = network.config
    fast, config.fast_encoder = config.fast_encoder, False
    try:
        yield
    finally:
        config.fast_encoder = fast
