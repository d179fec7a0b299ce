"""Meta's SAM written out with plain tensor operations, on a state dict of Meta's names; with the authors' additions."""

import math
from dataclasses import dataclass
from itertools import product

import pytest
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class SamShape:
    hidden: int = 32
    depth: int = 3
    heads: int = 2
    global_layers: tuple[int, ...] = (1,)
    grid: int = 6
    window: int = 4  # does not divide the grid: windows at the edge are filled up
    width: int = 32
    decoder_mlp: int = 48
    iou_hidden: int = 24

    @property
    def image_size(self) -> int:
        return 16 * self.grid


def meta_shapes(shape: SamShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a `sam_vit_*.pth`."""
    c, w = shape.hidden, shape.width
    shapes = {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, w // 2)}

    def layer(name: str, *size: int, bias: int = 0) -> None:
        shapes[f"{name}.weight"] = size
        if bias:
            shapes[f"{name}.bias"] = (bias,)

    shapes["image_encoder.pos_embed"] = (1, shape.grid, shape.grid, c)
    layer("image_encoder.patch_embed.proj", c, 3, 16, 16, bias=c)
    for number in range(shape.depth):
        block = f"image_encoder.blocks.{number}"
        side = shape.grid if number in shape.global_layers else shape.window
        layer(f"{block}.norm1", c, bias=c)
        layer(f"{block}.norm2", c, bias=c)
        layer(f"{block}.attn.qkv", 3 * c, c, bias=3 * c)
        layer(f"{block}.attn.proj", c, c, bias=c)
        shapes[f"{block}.attn.rel_pos_h"] = shapes[f"{block}.attn.rel_pos_w"] = (2 * side - 1, c // shape.heads)
        layer(f"{block}.mlp.lin1", 4 * c, c, bias=4 * c)
        layer(f"{block}.mlp.lin2", c, 4 * c, bias=c)
    layer("image_encoder.neck.0", w, c, 1, 1)
    layer("image_encoder.neck.1", w, bias=w)
    layer("image_encoder.neck.2", w, w, 3, 3)
    layer("image_encoder.neck.3", w, bias=w)

    for number in range(4):
        layer(f"prompt_encoder.point_embeddings.{number}", 1, w)
    layer("prompt_encoder.not_a_point_embed", 1, w)
    layer("prompt_encoder.no_mask_embed", 1, w)
    layer("prompt_encoder.mask_downscaling.0", 4, 1, 2, 2, bias=4)
    layer("prompt_encoder.mask_downscaling.1", 4, bias=4)
    layer("prompt_encoder.mask_downscaling.3", 16, 4, 2, 2, bias=16)
    layer("prompt_encoder.mask_downscaling.4", 16, bias=16)
    layer("prompt_encoder.mask_downscaling.6", w, 16, 1, 1, bias=w)

    def attention(name: str, inner: int) -> None:
        for part in ("q_proj", "k_proj", "v_proj"):
            layer(f"{name}.{part}", inner, w, bias=inner)
        layer(f"{name}.out_proj", w, inner, bias=w)

    for number in range(2):
        block = f"mask_decoder.transformer.layers.{number}"
        attention(f"{block}.self_attn", w)
        attention(f"{block}.cross_attn_token_to_image", w // 2)
        attention(f"{block}.cross_attn_image_to_token", w // 2)
        for norm in range(1, 5):
            layer(f"{block}.norm{norm}", w, bias=w)
        layer(f"{block}.mlp.lin1", shape.decoder_mlp, w, bias=shape.decoder_mlp)
        layer(f"{block}.mlp.lin2", w, shape.decoder_mlp, bias=w)
    attention("mask_decoder.transformer.final_attn_token_to_image", w // 2)
    layer("mask_decoder.transformer.norm_final_attn", w, bias=w)
    layer("mask_decoder.iou_token", 1, w)
    layer("mask_decoder.mask_tokens", 4, w)
    layer("mask_decoder.output_upscaling.0", w, w // 4, 2, 2, bias=w // 4)
    layer("mask_decoder.output_upscaling.1", w // 4, bias=w // 4)
    layer("mask_decoder.output_upscaling.3", w // 4, w // 8, 2, 2, bias=w // 8)
    heads = {f"output_hypernetworks_mlps.{number}": (w, w, w // 8) for number in range(4)}
    heads["iou_prediction_head"] = (shape.iou_hidden, shape.iou_hidden, 4)
    for head, outputs in heads.items():
        inputs = (w, *outputs[:2])
        for number, (n_in, n_out) in enumerate(zip(inputs, outputs, strict=True)):
            layer(f"mask_decoder.{head}.layers.{number}", n_out, n_in, bias=n_out)
    return shapes


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """All far from zero, of a size that keeps the features'."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        is_table = "pos" in name or "embed.weight" in name or "token" in name.rsplit(".", 2)[-2]
        if len(shape) == 1:
            is_norm = "norm" in name or any(mark in name for mark in ("neck.1", "neck.3", "scaling.1.", "scaling.4."))
            tensors[name] = 0.2 * noise + (is_norm and name.endswith("weight"))
        else:
            tensors[name] = noise if is_table else noise * (3 if "hyper" in name else 1) / math.prod(shape[1:]) ** 0.5
    return tensors


def meta_logits(w: dict[str, torch.Tensor], pixels: torch.Tensor, shape: SamShape, lora_scaling: float = 0.0):
    """SAM's first mask without prompts, (B, 3, S, S) -> (B, 1, S/4, S/4), in Meta's order of operations.

    Linear layers may be wrapped in the authors' LoRA; tensors named `adapter.*` are their spatial adapter.
    """

    def linear(x, name):
        if f"{name}.lora_A" not in w:
            return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
        low = x @ w[f"{name}.lora_A"].T @ w[f"{name}.lora_B"].T
        return F.linear(x, w[f"{name}.linear.weight"], w[f"{name}.linear.bias"]) + low * lora_scaling

    def norm(x, name, eps):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def norm_2d(x, name):
        return norm(x.permute(0, 2, 3, 1), name, 1e-6).permute(0, 3, 1, 2)

    def attend_window(x, name):
        batch, side, _, channels = x.shape
        query, key, value = (
            part.reshape(batch, side, side, shape.heads, -1)
            for part in linear(x, f"{name}.qkv").split(channels, dim=-1)
        )
        offsets = torch.arange(side)[:, None] - torch.arange(side) + side - 1
        scores = torch.einsum("bijhd,bklhd->bhijkl", query * query.shape[-1] ** -0.5, key)
        scores = scores + torch.einsum("bijhd,ikd->bhijk", query, w[f"{name}.rel_pos_h"][offsets])[..., None]
        scores = scores + torch.einsum("bijhd,jld->bhijl", query, w[f"{name}.rel_pos_w"][offsets])[..., None, :]
        attended = torch.einsum("bhijkl,bklhd->bijhd", scores.flatten(-2).softmax(-1).view(scores.shape), value)
        return linear(attended.flatten(3), f"{name}.proj")

    def attend(x, name, window):
        size = x.shape[1]
        filled = -(-size // window) * window
        x = F.pad(x, (0, 0, 0, filled - size, 0, filled - size))
        out = torch.empty_like(x)
        for top, left in product(range(0, filled, window), repeat=2):
            place = (slice(None), slice(top, top + window), slice(left, left + window))
            out[place] = attend_window(x[place], name)
        return out[:, :size, :size]

    x = F.conv2d(
        pixels, w["image_encoder.patch_embed.proj.weight"], w["image_encoder.patch_embed.proj.bias"], stride=16
    )
    x = x.permute(0, 2, 3, 1) + w["image_encoder.pos_embed"]
    for number in range(shape.depth):
        block = f"image_encoder.blocks.{number}"
        window = shape.grid if number in shape.global_layers else shape.window
        x = x + attend(norm(x, f"{block}.norm1", 1e-6), f"{block}.attn", window)
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.lin1")), f"{block}.mlp.lin2")
    z = norm_2d(F.conv2d(x.permute(0, 3, 1, 2), w["image_encoder.neck.0.weight"]), "image_encoder.neck.1")
    z = norm_2d(F.conv2d(z, w["image_encoder.neck.2.weight"], padding=1), "image_encoder.neck.3")

    if "adapter.dw.weight" in w:
        y = F.conv2d(z, w["adapter.dw.weight"], padding=1, groups=shape.width)
        y = F.conv2d(y, w["adapter.pw1.weight"])
        statistics = w["adapter.norm.running_mean"], w["adapter.norm.running_var"]
        y = F.batch_norm(y, *statistics, w["adapter.norm.weight"], w["adapter.norm.bias"])
        z = z + F.conv2d(F.gelu(y), w["adapter.pw2.weight"])

    def attend_tokens(q, k, v, name, heads=8):
        q, k, v = (linear(x, f"{name}.{part}_proj") for x, part in ((q, "q"), (k, "k"), (v, "v")))
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        attended = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return linear(attended.transpose(1, 2).flatten(2), f"{name}.out_proj")

    batch, grid = len(pixels), shape.grid
    centres = (torch.arange(grid, dtype=pixels.dtype) + 0.5) / grid
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    phases = (2 * torch.stack([x, y], dim=-1) - 1) @ w["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    positions = torch.cat([(2 * math.pi * phases).sin(), (2 * math.pi * phases).cos()], dim=-1).view(1, grid**2, -1)
    keys = (z + w["prompt_encoder.no_mask_embed.weight"].view(1, -1, 1, 1)).flatten(2).mT
    tokens = torch.cat([w["mask_decoder.iou_token.weight"], w["mask_decoder.mask_tokens.weight"]])
    tokens = queries = tokens.expand(batch, -1, -1)
    for number in range(2):
        block = f"mask_decoder.transformer.layers.{number}"
        if number == 0:
            queries = attend_tokens(queries, queries, queries, f"{block}.self_attn")
        else:
            with_positions = queries + tokens
            queries = queries + attend_tokens(with_positions, with_positions, queries, f"{block}.self_attn")
        queries = norm(queries, f"{block}.norm1", 1e-5)
        cross = f"{block}.cross_attn_token_to_image"
        queries = queries + attend_tokens(queries + tokens, keys + positions, keys, cross)
        queries = norm(queries, f"{block}.norm2", 1e-5)
        queries = queries + linear(F.relu(linear(queries, f"{block}.mlp.lin1")), f"{block}.mlp.lin2")
        queries = norm(queries, f"{block}.norm3", 1e-5)
        cross = f"{block}.cross_attn_image_to_token"
        keys = norm(keys + attend_tokens(keys + positions, queries + tokens, queries, cross), f"{block}.norm4", 1e-5)
    final = "mask_decoder.transformer.final_attn_token_to_image"
    queries = queries + attend_tokens(queries + tokens, keys + positions, keys, final)
    queries = norm(queries, "mask_decoder.transformer.norm_final_attn", 1e-5)

    image = keys.mT.reshape(batch, shape.width, grid, grid)
    up = "mask_decoder.output_upscaling"
    image = F.conv_transpose2d(image, w[f"{up}.0.weight"], w[f"{up}.0.bias"], stride=2)
    image = F.gelu(norm_2d(image, f"{up}.1"))
    image = F.gelu(F.conv_transpose2d(image, w[f"{up}.3.weight"], w[f"{up}.3.bias"], stride=2))
    head = "mask_decoder.output_hypernetworks_mlps.0.layers"
    weights = linear(F.relu(linear(F.relu(linear(queries[:, 1], f"{head}.0")), f"{head}.1")), f"{head}.2")
    return torch.einsum("bc,bchw->bhw", weights, image)[:, None]


class MetaSam:
    """The names above, for tests."""

    Shape = SamShape
    shapes = staticmethod(meta_shapes)
    logits = staticmethod(meta_logits)

    @staticmethod
    def tensors(shape: SamShape, seed: int = 0) -> dict[str, torch.Tensor]:
        return random_tensors(meta_shapes(shape), seed)


@pytest.fixture(scope="session")
def meta_sam() -> type[MetaSam]:
    return MetaSam
