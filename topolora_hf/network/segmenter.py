"""`TopoSamForSegmentation`: a SAM with a spatial adapter inside it and a detail branch beside it."""

from dataclasses import replace

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSemanticSegmentation, initialization
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.sam.modeling_sam import SamPreTrainedModel

from ..adapter_format.form import TRAVELLING, NetworkForm
from .backbones import backbone_of
from .class_masks import ClassMasks, StackedLinear, set_rows
from .configuration import TopoSamConfig
from .detail_branch import ChannelNorm, DetailBranch, SamFeatures, resize_bilinear
from .guards import carry_settings, check_adapter_keys
from .loading import load
from .peft_doors import PeftDoors
from .spatial_adapter import SpatialAdapter, ZeroConv2d
from .tile_scaling import TileScaling


class TopoSamForSegmentation(PeftDoors, SamPreTrainedModel):
    """Segment Anything as a promptless segmentation network for tiles of an image.

    Loaded from a stock SAM of any family it gives that SAM's own first mask (no prompts), brought to the tile's size,
    for each of K classes: what it adds starts at zero. See `TopoSamConfig` for the settings.

    Attributes:
        sam, class_masks, spatial_adapter, detail_branch: its parts; the last is None with `detail_channels=0`.
        criterion: the loss that `forward` applies when labels are given, such as a `TopoLoss`; None until it is set.
            It is no part of the network: its weights are its caller's to train.
        revision: which weights of that name they are: the commit on the Hub, or the first digits of a digest of those
            of an embedded base or a directory; None for any other. PEFT notes it in each adapter, and `load_adapter`
            asks the Hub for it.

    Example:
        >>> import torch
        >>> from topolora_hf import TopoSamForSegmentation
        >>> network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny").eval()
        >>> with torch.no_grad():
        ...     network(torch.zeros(1, 3, 256, 256)).logits.shape
        torch.Size([1, 1, 256, 256])
    """

    __module__ = "topolora_hf"  # wherever the file lies

    config_class = TopoSamConfig
    base_model_prefix = "sam"
    _keys_to_ignore_on_load_missing = [r"^(class_masks|spatial_adapter|detail_branch|tile_scaling)\."]
    # In a whole directory, config.json says the sizes, so that keyword arguments can change them.
    _keys_to_ignore_on_save = ["tile_scaling.settings"]

    def __init__(self, config: TopoSamConfig):
        super().__init__(config)
        form = config.form
        self.backbone = backbone_of(form.family)
        self.sam = self.backbone.build(config)
        self.class_masks = ClassMasks(self._first_hypernetwork, form.num_labels)
        self.tile_scaling = TileScaling(form)
        width = config.prompt_encoder_config.hidden_size
        self.spatial_adapter = SpatialAdapter(width, form.spatial_adapter_form)
        self.detail_branch = None
        if form.detail_channels:
            finer = self.backbone.finer_channels(self.sam)
            self.detail_branch = DetailBranch(form.detail_channels, width, form.num_labels, form.detail_context, finer)
        self.criterion: nn.Module | None = None
        self.revision: str | None = None
        if form.num_labels > 1 and type(self).__name__ in (config.architectures or ()):  # a whole directory has them
            self._keys_to_ignore_on_load_missing = [r"^(spatial_adapter|detail_branch|tile_scaling)\."]
        self.register_load_state_dict_pre_hook(check_adapter_keys)
        self.register_state_dict_pre_hook(carry_settings)
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        valid_mask: torch.Tensor | None = None,
        skeleton: torch.Tensor | None = None,
    ) -> SemanticSegmenterOutput:
        """Segment a batch of tiles.

        Args:
            pixel_values: (B, 3, T, T), RGB, normalised with SAM's mean and standard deviation. Without SAM (`use_sam`
                False) also (B, 3, H, W), both multiples of 8.
            labels: (B, K, T, T) masks, or (B, T, T) class indices, 0 for background: what `criterion` is applied to.
            valid_mask: (B, T, T), True where labels count (the field of view; not padding).
            skeleton: (B, K, T, T), or (B, T, T) when K = 1: hard skeleton of the labels; made here when it is missing.

        Returns:
            `logits` (B, K, T, T); `loss`, a scalar, when labels are given.

        Raises:
            ValueError: the tiles are not T x T, the labels are of another size, or are given without `criterion`.
        """
        if labels is not None and self.criterion is None:
            raise ValueError(
                "labels need an objective: set network.criterion = TopoLoss(iterations=...), with half the widest "
                f"structure's width in pixels as iterations. (These hold the values {labels.unique()[:5].tolist()}.)"
            )
        logits = self._segment(pixel_values)
        loss = None
        if labels is not None:
            loss = self.criterion(logits, labels, valid_mask=valid_mask, skeleton=skeleton).total
        return SemanticSegmenterOutput(loss=loss, logits=logits)

    def _segment(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Give the logits (B, K, T, T) of tiles (B, 3, T, T). A subclass may segment otherwise."""
        scaling = self.tile_scaling
        scaling.check(pixel_values)
        if not scaling.use_sam:
            return self.detail_branch(pixel_values, None)
        from_sam = self._run_sam(scaling(pixel_values))
        logits = resize_bilinear(from_sam.coarse_logits, pixel_values.shape[-2:])
        return logits + self.detail_branch(pixel_values, from_sam) if scaling.detail_channels else logits

    @property
    def receptive_radius(self) -> int | None:
        """How many pixels around a logit it depends on; None with SAM, which looks at the whole tile."""
        return None if self.tile_scaling.use_sam else self.detail_branch.receptive_radius

    def __setattr__(self, name: str, value: object) -> None:
        # The objective is no part of the network: its learned weights are not counted, frozen or saved with it.
        if name == "criterion":
            object.__setattr__(self, name, value)
            return
        wrapped = self._modules.get(name) if name == "tile_scaling" else None
        super().__setattr__(name, value)
        # An adapter's own in the place of PEFT's wrapper of several: it was merged.
        if isinstance(value, TileScaling) and getattr(wrapped, "original_module", value) is not value:
            self.forget_name()
            if not value.detail_channels:
                self.detail_branch = None
            if value.num_labels - 1 != len(self.class_masks.layers[0].bias):  # it runs without SAM
                self._restart_class_masks(value.num_labels)

    @property
    def config(self) -> TopoSamConfig:
        """The configuration, with the sizes that run now: the active adapter's."""
        config, scaling = self.__dict__["config"], self._modules.get("tile_scaling")
        for name in TRAVELLING if scaling is not None else ():
            setattr(config, name, getattr(scaling, name))
        return config

    @config.setter
    def config(self, config: TopoSamConfig) -> None:
        self.__dict__["config"] = config

    @property
    def base_form(self) -> NetworkForm:
        """What the base is made of, whatever the active adapter runs of it."""
        channels = 0 if self.detail_branch is None else self.detail_branch.channels
        return replace(self.config.form, detail_channels=channels, use_sam=True)

    @property
    def _first_hypernetwork(self) -> nn.Module:
        return self.sam.mask_decoder.output_hypernetworks_mlps[0]

    def start_classes(self, num_labels: int) -> None:
        """Give a base of one map so many classes, each a copy of that map.

        Raises:
            ValueError: it has several maps, and another number is asked for.
        """
        replace(self.config.form, num_labels=num_labels)  # which checks it
        present = self.tile_scaling.num_labels
        if num_labels == present:
            return
        if present > 1:
            raise ValueError(
                f"the base {self.name_or_path} has num_labels={present}, got num_labels={num_labels}: only a base of "
                "one map can be given another number of classes"
            )
        self._restart_class_masks(num_labels)
        if self.detail_branch is not None:
            set_rows(self.detail_branch.correction, num_labels)
        self.tile_scaling.change(num_labels=num_labels)

    def _restart_class_masks(self, num_labels: int) -> None:
        set_rows(self.class_masks, num_labels - 1)
        self.class_masks.copy_first(self._first_hypernetwork)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """As PEFT asks for it; transformers' own property warns at each adapter that it has a new name."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def _run_sam(self, encoder_pixels: torch.Tensor) -> SamFeatures:
        embedding, encoded = self.backbone.encode(self.sam, encoder_pixels, self._is_fast)
        class_masks = self.class_masks if self.tile_scaling.num_labels > 1 else None
        return self.backbone.decode(self.sam, self.spatial_adapter(embedding), encoded, class_masks)

    @property
    def _is_fast(self) -> bool:
        # What `torch.export` and `torch.compile` trace is transformers' own: ours works block by block, and caches.
        return self.config.fast_encoder and not torch.compiler.is_compiling()

    def train(self, mode: bool = True) -> "TopoSamForSegmentation":
        """As in torch, but a batch norm in a SAM's frozen encoder keeps its statistics."""
        super().train(mode)
        for module in self.sam.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, TileScaling):
            module.change()
        elif isinstance(module, StackedLinear):  # after SAM, in the order in which they are made
            self.class_masks.copy_first(self._first_hypernetwork)
        elif isinstance(module, ChannelNorm):  # transformers knows norms by their class names only
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, ZeroConv2d):
            initialization.zeros_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            initialization.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                initialization.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs) -> "TopoSamForSegmentation":
        """Load a base by its name.

        That is a Hub id or directory of a stock SAM, a directory that this class saved, Meta's own file
        (`"sam_vit_b_01ec64.pth"`), or an embedded base: `"topolora_hf/tiny"`, for thin structures, and
        `"topolora_hf/tiny-regions"`, both pretrained on synthetic images; `"topolora_hf/vessels"`, trained on fundus
        photographs; `"topolora_hf/tiny-random"`,
        `"topolora_hf/vit-s-random"`, `"topolora_hf/vit-b-random"`. As with any transformers class, the name of an
        adapter, a directory or a Hub id, loads its base, at the commit and in the form that the adapter needs, and then
        the adapter.

        The fields of `TopoSamConfig` are keyword arguments. `image_size` and `tile_size` win over what a base's
        directory holds; an adapter that was trained with others is refused. `num_labels` gives a base of one map so
        many classes, each a copy of that map, and an adapter brings its own number. `attn_implementation` asks for
        transformers' own encoder. Weights become float32, however a base is stored, unless `dtype` says otherwise
        ("auto": as stored). They are read from safetensors alone, but for Meta's files, of which only tensors and plain
        values are read.

        Raises:
            OSError: nothing is there (FileNotFoundError), or the Hub cannot be reached.
            ValueError: the base was stored in another form than is asked for: each part is read whole or, by
                `detail_channels=0`, left out.
            AdapterMismatchError: an adapter does not fit its base whole.
        """
        if "attn_implementation" in kwargs:
            kwargs.setdefault("fast_encoder", False)
        torch_dtype = kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = kwargs.get("dtype") or torch_dtype or torch.float32
        kwargs.setdefault("use_safetensors", True)
        return load(cls, super().from_pretrained, pretrained_model_name_or_path, *args, **kwargs)

    def forget_name(self) -> None:
        """Take away the name: its weights are no longer those of the base of that name."""
        self.name_or_path = self.config._name_or_path = ""
        self.revision = None


AutoConfig.register(TopoSamConfig.model_type, TopoSamConfig, exist_ok=True)
for auto_class in (AutoModel, AutoModelForSemanticSegmentation):
    auto_class.register(TopoSamConfig, TopoSamForSegmentation, exist_ok=True)
