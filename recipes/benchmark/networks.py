"""The same network three ways: as the paper's authors write it, as transformers and PEFT run it, and ours."""

import re
import zlib
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import SamModel

from benchmark.baselines import AuthorsBlock, PromptlessSam
from topolora_hf.adapter_format.families import FAMILIES
from topolora_hf.adapter_format.presets import PRESETS, preset_network_settings
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.embedded import tiny_config
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.network.spatial_adapter import SpatialAdapter
from topolora_hf.objective.losses import TopoLoss

MODELS = ("vit_b", "tiny", "small")
# The authors' ten rounds count the first opening.
ITERATIONS = 9

_PAPER = PRESETS["paper"]
# 4 x 4 tokens: a window of 3 needs padding, as 14 does in the real model.
SMALL_VISION = {
    "hidden_size": 64,
    "output_channels": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "window_size": 3,
    "global_attn_indexes": [1],
    "num_pos_feats": 16,
}
# How PEFT and `LoraLinear` name what they wrap; without these the names are SAM's own.
_WRAPPING = re.compile(r"^base_model\.model\.|\.base_layer|\.original_module|\.modules_to_save\.default")


@dataclass(frozen=True)
class NetworkShape:
    """A network's size.

    Attributes:
        model: `"vit_b"` (SAM's smallest published encoder), `"tiny"` (this package's embedded base) or `"small"` (two
            narrow layers, for tests).
        image_size: pixels a side; None is the model's own.
        layers: of the encoder; None is all. Of fewer, the last has global attention.
    """

    model: str = "vit_b"
    image_size: int | None = None
    layers: int | None = None

    def config(self, attention: str = "sdpa", **settings) -> TopoSamConfig:
        """A configuration whose checkpoint's size is `image_size`.

        Args:
            attention: `"sdpa"` or `"eager"`: transformers' two implementations.
            **settings: further `TopoSamConfig` fields.
        """
        if self.model == "tiny":
            config = tiny_config(**settings)
        elif self.model == "small":
            prompt, decoder = {"hidden_size": 32}, {"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32}
            vision = SMALL_VISION
            config = TopoSamConfig(
                vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder, **settings
            )
        else:
            config = TopoSamConfig(**settings)
        size = self.image_size or config.vision_config.image_size
        config.image_size = config.tile_size = size
        config.vision_config.image_size = config.prompt_encoder_config.image_size = size
        config.prompt_encoder_config.image_embedding_size = size // config.vision_config.patch_size
        if self.layers is not None:
            config.vision_config.num_hidden_layers = self.layers
            config.vision_config.global_attn_indexes = [self.layers - 1]
        config._attn_implementation = attention
        return config


def authors_network(shape: NetworkShape) -> PromptlessSam:
    """The paper's network by `baselines`: LoRA in every layer, spatial adapter and whole decoder trained."""
    network = _promptless_sam(shape.config("eager"))
    network.requires_grad_(False)
    layers = network.sam.vision_encoder.layers
    for number, layer in enumerate(layers):
        layers[number] = AuthorsBlock(layer, _PAPER.rank, _PAPER.lora_alpha)
    network.spatial_adapter.requires_grad_(True)
    network.sam.mask_decoder.requires_grad_(True)
    return network.train()


def transformers_network(shape: NetworkShape, attention: str) -> nn.Module:
    """The same with transformers' own `SamModel` ("sdpa" or "eager" attention) and LoRA by PEFT."""
    network = _promptless_sam(shape.config(attention))
    lora = LoraConfig(
        r=_PAPER.rank,
        lora_alpha=_PAPER.lora_alpha,
        target_modules=FAMILIES["sam"].lora_targets(),
        modules_to_save=["spatial_adapter", *FAMILIES["sam"].decoder],
    )
    return get_peft_model(network, lora).train()


def our_network(
    shape: NetworkShape,
    preset: str = "paper",
    detail_context: bool = True,
    checkpointing: bool = False,
    lora_targets: str = "ffn",
) -> nn.Module:
    """The same by this package, its loss included; by another preset, that preset's network.

    Args:
        shape: of the network.
        preset: a name in `PRESETS`.
        detail_context: whether the detail branch, where the preset has one, has its context blocks.
        checkpointing: whether the encoder's layers are computed again in the backward pass, and not kept.
        lora_targets: the layers that LoRA is put into, as in `create_adapter`; fewer are less work.
    """
    settings = preset_network_settings(preset) | {"detail_context": detail_context}
    network = TopoSamForSegmentation(shape.config(**settings))
    network.criterion = TopoLoss(ITERATIONS, cldice_weight=0.5, schedule="fixed", target_skeleton="soft")
    if checkpointing:
        network.gradient_checkpointing_enable()
    return create_adapter(network, preset, lora_targets=lora_targets).train()


@torch.no_grad()
def fill_with_random_weights(network: nn.Module) -> nn.Module:
    """Gives each parameter numbers that depend on its name in SAM alone, so networks that share names share weights.

    All are off their start: relative positions and LoRA's B, which start at zero, take part. In place.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in tensors:
        name = canonical_name(name)
        if not (tensor.is_floating_point() and tensor.numel()):  # of one class, further classes have none
            continue
        noise = torch.empty(tensor.shape).normal_(generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if tensor.ndim == 1:
            starts_at_one = "norm" in name and name.endswith("weight")
            noise = 0.1 * noise + starts_at_one
        elif "lora_B" in name:
            noise = 0.02 * noise
        elif "rel_pos" in name or "pos_embed" in name:
            noise = 0.1 * noise
        elif not name.endswith(("positional_embedding", "embed.weight", "token.weight", "tokens.weight")):
            noise = noise / tensor[0].numel() ** 0.5
            if "hypernetworks" in name and "proj_out" in name:
                noise = 6 * noise  # logits some units apart, as a trained network has them
        tensor.copy_(noise)
    return network


def canonical_name(name: str) -> str:
    """A parameter's name without what PEFT adds to it.

    >>> canonical_name("base_model.model.sam.vision_encoder.layers.0.mlp.lin1.lora_A.default.weight")
    'sam.vision_encoder.layers.0.mlp.lin1.lora_A'
    """
    return _WRAPPING.sub("", name).replace(".default.weight", "")


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a step trains, by canonical name."""
    return {canonical_name(name): tensor for name, tensor in network.named_parameters() if tensor.requires_grad}


def _promptless_sam(config: TopoSamConfig) -> PromptlessSam:
    return PromptlessSam(SamModel(config), SpatialAdapter(config.vision_config.output_channels, "paper"))
