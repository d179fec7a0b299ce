"""The training step of each family of SAMs: ours beside transformers' own model with PEFT's LoRA."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput

from benchmark.measure import Workload
from benchmark.networks import ITERATIONS, SMALL_VISION
from topolora_hf.adapter_format.families import FAMILIES
from topolora_hf.adapter_format.presets import PRESETS
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.network.backbones import backbone_of
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss

_HIERA = {"model_type": "sam2_hiera_det_model"}
_REPVIT = {
    "model_type": "timm_wrapper",
    "architecture": "repvit_m1",
    "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    "num_classes": 2,  # of no layer here; without labels transformers looks for ImageNet's
    "label_names": ["0", "1"],
}
# Published: the smallest and, of SAM 2.1, the one that its paper recommends. Small: for tests.
SHAPES = {
    "sam_hq": ("sam_hq", 1024, {}, None),
    "sam2": ("sam2", 1024, {}, _HIERA),
    "sam2-base-plus": (
        "sam2",
        1024,
        {"backbone_channel_list": [896, 448, 224, 112]},
        _HIERA
        | {
            "hidden_size": 112,
            "blocks_per_stage": [2, 3, 16, 3],
            "embed_dim_per_stage": [112, 224, 448, 896],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "global_attention_blocks": [12, 16, 20],
            "window_positional_embedding_background_size": [14, 14],
        },
    ),
    "edgetam": ("edgetam", 1024, {}, _REPVIT),
    "sam3_tracker": ("sam3_tracker", 1008, {}, {"model_type": "sam3_vit_model"}),
    "small-sam_hq": ("sam_hq", 64, SMALL_VISION, None),
    "small-sam2": (
        "sam2",
        64,
        {"backbone_channel_list": [128, 64, 32, 16], "fpn_hidden_size": 32},
        _HIERA
        | {
            "hidden_size": 16,
            "blocks_per_stage": [1, 2, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 6, 3],
            "global_attention_blocks": [4],
        },
    ),
    "small-edgetam": ("edgetam", 64, {"fpn_hidden_size": 32}, _REPVIT),
    "small-sam3_tracker": (
        "sam3_tracker",
        112,
        {"fpn_hidden_size": 32},
        {
            "model_type": "sam3_vit_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "window_size": 3,
            "global_attn_indexes": [1],
            "pretrain_image_size": 56,
        },
    ),
}


def can_build(shape: str) -> bool:
    """Whether the packages are there that the family's encoder needs."""
    return SHAPES[shape][0] != "edgetam" or find_spec("timm") is not None


def family_config(shape: str, image_size: int | None = None) -> PreTrainedConfig:
    """Make the family's own configuration of a shape in `SHAPES`, whose masks are always those of the first token.

    Args:
        image_size: pixels a side; None is the shape's own.
    """
    family, own, vision, trunk = SHAPES[shape]
    size, vision = image_size or own, dict(vision)
    if trunk is None:
        vision["image_size"] = size
    else:
        grid = size // (14 if family == "sam3_tracker" else 16)
        vision["backbone_feature_sizes"] = [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2]
        square = {"sam2": [size, size], "sam3_tracker": size}
        vision["backbone_config"] = trunk | ({"image_size": square[family]} if family in square else {})
    prompt, decoder = {"image_size": size}, {}
    if shape.startswith("small"):
        prompt["hidden_size"] = 32
        decoder = {"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32}
    if family == "sam_hq":
        decoder["vit_dim"] = vision.get("hidden_size", 768)
    else:
        decoder["dynamic_multimask_via_stability"] = False
    parts = {"vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}
    return CONFIG_MAPPING[family](**parts, attn_implementation="sdpa")


def stock_model(shape: str, image_size: int | None = None) -> PreTrainedModel:
    """Make transformers' own model of a shape, as that library starts it."""
    return backbone_of(SHAPES[shape][0]).build(our_config(shape, image_size))


def our_config(shape: str, image_size: int | None = None, **settings) -> TopoSamConfig:
    """Make a `TopoSamConfig` around `family_config`."""
    stock = family_config(shape, image_size)
    parts = {name: getattr(stock, name) for name in stock.sub_configs}
    return TopoSamConfig(family=SHAPES[shape][0], attn_implementation="sdpa", **parts, **settings)


class StockSegmenter(nn.Module):
    """Transformers' own model without prompts, its first mask brought to the tile's size; and the loss."""

    def __init__(self, model: PreTrainedModel, criterion: nn.Module):
        super().__init__()
        self.sam = model
        self.criterion = criterion

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> SemanticSegmenterOutput:
        masks = self.sam(pixel_values=pixel_values, multimask_output=False).pred_masks[:, 0]
        logits = F.interpolate(masks, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return SemanticSegmenterOutput(loss=self.criterion(logits, labels).total, logits=logits)


def family_step(shape: str, ours: bool, image_size: int, batch: int) -> Workload:
    """Make a training step of preset `lora_only`: LoRA in the encoder and the decoder's living parts.

    Args:
        shape: a name in `SHAPES`.
        ours: by this package, or by transformers and PEFT.
        image_size: pixels a side.
        batch: images.
    """
    torch.manual_seed(0)
    network = _ours(shape, image_size) if ours else _theirs(shape, image_size)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def run(pixel_values: torch.Tensor, labels: torch.Tensor) -> None:
        network(pixel_values=pixel_values, labels=labels).loss.backward()
        for parameter in trained:
            parameter.grad = None

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        pixel_values = torch.randn(batch, 3, image_size, image_size)
        return pixel_values, (F.avg_pool2d(pixel_values[:, 0], 9, 1, 4) > 0.1).long()

    return Workload(run, draw, items=batch)


def _criterion() -> TopoLoss:
    return TopoLoss(ITERATIONS, cldice_weight=0.5, schedule="fixed", target_skeleton="soft")


def _ours(shape: str, image_size: int) -> nn.Module:
    network = TopoSamForSegmentation(our_config(shape, image_size, detail_channels=0))
    network.criterion = _criterion()
    return create_adapter(network, "lora_only").train()


def _theirs(shape: str, image_size: int) -> nn.Module:
    family, preset = SHAPES[shape][0], PRESETS["lora_only"]
    lora = LoraConfig(
        r=preset.rank,
        lora_alpha=preset.lora_alpha,
        target_modules=rf".*{FAMILIES[family].lora_targets()}",
        modules_to_save=list(preset.decoder_parts(family)),
    )
    return get_peft_model(StockSegmenter(stock_model(shape, image_size), _criterion()), lora).train()


def steps(small: bool, image_size: int, batch: int) -> dict[str, tuple[bool, Callable, dict]]:
    """Give the rows of the benchmark: name -> (ours, function, its arguments), of the shapes that can be built."""
    rows = {}
    for shape, (family, own, *_) in SHAPES.items():
        if shape.startswith("small") == small and can_build(shape):
            multiple = FAMILIES[family].size_multiple
            size = max(multiple, min(own, image_size) // multiple * multiple)
            for form in ("sdpa", "ours"):
                arguments = {"shape": shape, "ours": form == "ours", "image_size": size, "batch": batch}
                rows[f"{shape}/{form}/float32"] = (form == "ours", family_step, arguments)
    return rows
