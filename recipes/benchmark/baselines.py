"""The computations that ours are measured against, written from their definitions with nothing left out.

Segment Anything's attention with its whole score matrix (Kirillov et al. 2023, arXiv 2304.02643), LoRA as a module
around a linear layer (Hu et al. 2021, arXiv 2106.09685), and clDice by pooling (Shit et al. 2021, arXiv 2003.07311):
together the training step as the authors of TopoLoRA-SAM (arXiv 2601.02273) write it. Every intermediate result that
they hold in memory is held here too.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SamModel
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.sam.modeling_sam import SamVisionAttention, SamVisionLayer

_EPS = 1e-6  # of clDice's ratios, as in `objective.losses`


class MaterialisedAttention(nn.Module):
    """Attention with decomposed relative positions, its scores one tensor (B x heads, tokens, tokens).

    Shape:
        (B, h, w, hidden) -> (B, h, w, hidden)
    """

    def __init__(self, attention: SamVisionAttention):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w
        self.heads, self.scale = attention.num_attention_heads, attention.scale

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = hidden_states.shape
        tokens = height * width
        split = self.qkv(hidden_states).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).flatten(1, 2)
        scores = (query * self.scale) @ key.transpose(1, 2)
        grid = query.unflatten(1, (height, width))
        rel_h = torch.einsum("bhwc,hkc->bhwk", grid, relative_positions(self.rel_pos_h, height))
        rel_w = torch.einsum("bhwc,wkc->bhwk", grid, relative_positions(self.rel_pos_w, width))
        scores = scores.reshape(-1, height, width, height, width) + rel_h[..., None] + rel_w[..., None, :]
        weights = scores.reshape(-1, tokens, tokens).softmax(dim=-1)
        mixed = (weights @ value).unflatten(0, (batch, self.heads))
        return self.proj(mixed.transpose(1, 2).reshape(batch, height, width, -1))


def relative_positions(table: torch.Tensor, size: int) -> torch.Tensor:
    """(2 size - 1, d) -> (size, size, d): the table's row for every query and key position along one axis."""
    if len(table) != 2 * size - 1:
        raise ValueError(f"a table of {len(table)} relative positions does not fit {size} tokens")
    positions = torch.arange(size, device=table.device)
    return table[positions[:, None] - positions[None, :] + size - 1]


class LoraLinear(nn.Module):
    """`W x + b + (alpha / r) B A x`, with only A (r, in) and B (out, r) trained."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.base_layer = linear
        self.lora_A = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        self.scaling = alpha / rank

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.base_layer(features) + (features @ self.lora_A.T) @ self.lora_B.T * self.scaling


class AuthorsBlock(nn.Module):
    """A transformer block of SAM's encoder over a stock layer's weights; windows padded, LoRA in the MLP.

    Shape:
        (B, h, w, hidden) -> (B, h, w, hidden)
    """

    def __init__(self, layer: SamVisionLayer, rank: int, alpha: float):
        super().__init__()
        self.layer_norm1, self.layer_norm2, self.mlp = layer.layer_norm1, layer.layer_norm2, layer.mlp
        self.mlp.lin1 = LoraLinear(layer.mlp.lin1, rank, alpha)
        self.mlp.lin2 = LoraLinear(layer.mlp.lin2, rank, alpha)
        self.attn = MaterialisedAttention(layer.attn)
        self.window_size = layer.window_size

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed = self.layer_norm1(hidden_states)
        if self.window_size:
            attended = self._attend_in_windows(normed)
        else:
            attended = self.attn(normed)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def _attend_in_windows(self, features: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = features.shape
        side = self.window_size
        padded = F.pad(features, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        tiled = padded.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
        attended = self.attn(tiled.reshape(-1, side, side, channels))
        restored = attended.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
        return restored.reshape(padded.shape)[:, :height, :width]


class PromptlessSam(nn.Module):
    """A `SamModel` run without prompts, with a spatial adapter between encoder and decoder: its first mask.

    Shape:
        pixel_values (B, 3, S, S) -> `logits` (B, 1, S, S)
    """

    def __init__(self, sam: SamModel, spatial_adapter: nn.Module):
        super().__init__()
        self.sam = sam
        self.spatial_adapter = spatial_adapter

    def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        embedding = self.spatial_adapter(self.sam.vision_encoder(pixel_values).last_hidden_state)
        masks = self.sam(image_embeddings=embedding, multimask_output=False).pred_masks[:, 0]
        logits = F.interpolate(masks, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return SemanticSegmenterOutput(logits=logits)


def pooled_skeleton(image: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton by the original formulation: every erosion and every opening pooled anew.

    Args:
        image: (B, C, H, W) in [0, 1].
        iterations: rounds after the first opening.

    Returns:
        (B, C, H, W)
    """
    skeleton = F.relu(image - _open(image))
    for _ in range(iterations):
        image = _erode(image)
        residue = F.relu(image - _open(image))
        skeleton = skeleton + F.relu(residue - skeleton * residue)
    return skeleton


def pooled_cldice_loss(probabilities: torch.Tensor, target: torch.Tensor, iterations: int) -> torch.Tensor:
    """`1 - clDice` of each map with pooled skeletons of both: (B, 1, H, W) twice -> (B, 1). No target may be empty."""
    skeleton = pooled_skeleton(probabilities, iterations)
    target_skeleton = pooled_skeleton(target, iterations)
    precision = (skeleton * target).sum((-2, -1)) / (skeleton.sum((-2, -1)) + _EPS)
    sensitivity = (target_skeleton * probabilities).sum((-2, -1)) / target_skeleton.sum((-2, -1))
    return 1 - 2 * precision * sensitivity / (precision + sensitivity + _EPS)


def authors_loss(logits: torch.Tensor, target: torch.Tensor, iterations: int) -> torch.Tensor:
    """`BCE + Dice + 0.5 clDice`, each averaged over samples, in float32: the paper's objective.

    Args:
        logits, target: (B, 1, H, W); no target may be empty.
        iterations: as of `pooled_skeleton`.
    """
    logits = logits.float()
    probabilities = logits.sigmoid()
    overlap, total = (probabilities * target).sum((-2, -1)), (probabilities + target).sum((-2, -1))
    dice_loss = 1 - (2 * overlap + 1) / (total + 1)
    cldice_loss = pooled_cldice_loss(probabilities, target, iterations)
    return F.binary_cross_entropy_with_logits(logits, target) + dice_loss.mean() + 0.5 * cldice_loss.mean()


def _erode(image: torch.Tensor) -> torch.Tensor:
    along_rows = -F.max_pool2d(-image, (1, 3), stride=1, padding=(0, 1))
    along_columns = -F.max_pool2d(-image, (3, 1), stride=1, padding=(1, 0))
    return torch.minimum(along_columns, along_rows)


def _open(image: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(_erode(image), 3, stride=1, padding=1)
