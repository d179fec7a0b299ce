"""Meta's own SAM checkpoints (`sam_vit_b_01ec64.pth` and what others fine-tuned from them), in transformers' terms."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import SamConfig, SamModel

# Meta's names, as patterns, and transformers'; all that match are applied, in this order.
_RENAMES = {
    r"^image_encoder\.": "vision_encoder.",
    r"^vision_encoder\.patch_embed\.proj\.": "vision_encoder.patch_embed.projection.",
    r"^vision_encoder\.blocks\.": "vision_encoder.layers.",
    r"^vision_encoder\.neck\.0\.": "vision_encoder.neck.conv1.",
    r"^vision_encoder\.neck\.1\.": "vision_encoder.neck.layer_norm1.",
    r"^vision_encoder\.neck\.2\.": "vision_encoder.neck.conv2.",
    r"^vision_encoder\.neck\.3\.": "vision_encoder.neck.layer_norm2.",
    r"\.norm(\d|_final_attn)\.": r".layer_norm\1.",
    r"^prompt_encoder\.point_embeddings\.": "prompt_encoder.point_embed.",
    r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$": "shared_image_embedding.positional_embedding",
    r"^prompt_encoder\.mask_downscaling\.0\.": "prompt_encoder.mask_embed.conv1.",
    r"^prompt_encoder\.mask_downscaling\.1\.": "prompt_encoder.mask_embed.layer_norm1.",
    r"^prompt_encoder\.mask_downscaling\.3\.": "prompt_encoder.mask_embed.conv2.",
    r"^prompt_encoder\.mask_downscaling\.4\.": "prompt_encoder.mask_embed.layer_norm2.",
    r"^prompt_encoder\.mask_downscaling\.6\.": "prompt_encoder.mask_embed.conv3.",
    r"^mask_decoder\.output_upscaling\.0\.": "mask_decoder.upscale_conv1.",
    r"^mask_decoder\.output_upscaling\.1\.": "mask_decoder.upscale_layer_norm.",
    r"^mask_decoder\.output_upscaling\.3\.": "mask_decoder.upscale_conv2.",
    # Both heads have three layers; the middle one's name must be made before `layers.0` is free.
    r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.0\.": r"\1.proj_in.",
    r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.1\.": r"\1.layers.0.",
    r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.2\.": r"\1.proj_out.",
}
# Tensors of one value under two names: only the second is in Meta's files.
_TIED = {"prompt_encoder.shared_embedding.positional_embedding": "shared_image_embedding.positional_embedding"}


def read_meta_checkpoint(path: str | Path) -> tuple[SamConfig, dict[str, torch.Tensor]]:
    """Reads a state dict in the layout of Meta's segment-anything.

    Returns:
        The configuration that its tensors imply, and the tensors under the names of transformers' `SamModel`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of tensors alone, or its tensors are not those of a SAM; each is named.
    """
    return convert_meta_tensors(load_tensors(path), path)


def load_tensors(path: str | Path) -> Mapping:
    """What `torch.load` reads without running any code of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file that `torch.save` wrote, is not whole, or holds more than tensors and plain values.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint of tensors and plain values: {error}") from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} must hold a dictionary, got a {type(loaded).__name__}")
    return loaded


def convert_meta_tensors(tensors: Mapping, path: str | Path) -> tuple[SamConfig, dict[str, torch.Tensor]]:
    """The same for tensors that are read already; `path` is named in errors."""
    config = _infer_config(tensors, path)
    converted = {_rename(name): tensor for name, tensor in tensors.items()}
    converted |= {alias: converted[name] for alias, name in _TIED.items() if name in converted}
    with torch.device("meta"):
        expected = SamModel(config).state_dict()
    problems = [f"missing {name}" for name in expected if name not in converted]
    problems += [f"unexpected {name}" for name in tensors if _rename(name) not in expected]
    problems += [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[_rename(name)].shape)}"
        for name, tensor in tensors.items()
        if _rename(name) in expected and tensor.shape != expected[_rename(name)].shape
    ]
    if problems:
        raise ValueError(f"{path} does not hold the tensors of a SAM: {'; '.join(problems)}")
    return config, converted


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def _infer_config(tensors: Mapping, path: str | Path) -> SamConfig:
    """The decoder's number of heads leaves no trace in the tensors: it is Meta's, 8, as in all of its models."""

    def shape(name: str) -> torch.Size:
        if not isinstance(tensors.get(name), torch.Tensor):
            raise ValueError(f"{path} is not a checkpoint of Meta's SAM: it has no tensor {name}")
        return tensors[name].shape

    _, grid, _, hidden_size = shape("image_encoder.pos_embed")
    patch_size = shape("image_encoder.patch_embed.proj.weight")[-1]
    depth = _count(tensors, r"^image_encoder\.blocks\.(\d+)\.")
    # 2 w - 1 relative positions in windows of w tokens, and as many of the whole grid in global layers.
    sides = [(shape(f"image_encoder.blocks.{layer}.attn.rel_pos_h")[0] + 1) // 2 for layer in range(depth)]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1:
        raise ValueError(f"{path} has windows of several sizes, {sorted(windows)} tokens: no SAM has")
    image_size, width = grid * patch_size, shape("image_encoder.neck.0.weight")[0]
    return SamConfig(
        vision_config={
            "hidden_size": hidden_size,
            "output_channels": width,
            "num_hidden_layers": depth,
            "num_attention_heads": hidden_size // shape("image_encoder.blocks.0.attn.rel_pos_h")[1],
            "image_size": image_size,
            "patch_size": patch_size,
            "window_size": windows.pop() if windows else grid,
            "global_attn_indexes": [layer for layer, side in enumerate(sides) if side == grid],
            "num_pos_feats": shape("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix")[1],
            "mlp_dim": shape("image_encoder.blocks.0.mlp.lin1.weight")[0],
        },
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": image_size,
            "patch_size": patch_size,
            "mask_input_channels": shape("prompt_encoder.mask_downscaling.3.weight")[0],
        },
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": shape("mask_decoder.transformer.layers.0.mlp.lin1.weight")[0],
            "num_hidden_layers": _count(tensors, r"^mask_decoder\.transformer\.layers\.(\d+)\."),
            "num_multimask_outputs": shape("mask_decoder.mask_tokens.weight")[0] - 1,
            "iou_head_hidden_dim": shape("mask_decoder.iou_prediction_head.layers.0.weight")[0],
            "layer_norm_eps": 1e-5,  # as Meta computes; transformers' default of 1e-6 moves the logits by some 1e-5
        },
    )


def _count(tensors: Mapping, pattern: str) -> int:
    """One more than the largest number that the pattern finds in a name."""
    return 1 + max((int(match[1]) for name in tensors if (match := re.match(pattern, name))), default=-1)
