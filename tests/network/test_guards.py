"""An adapter loads whole, or an error names what is wrong: the same for every loader."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import SamModel

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation


def with_peft(directory, base):
    return PeftModel.from_pretrained(base, directory)


def with_load_adapter(directory, base):
    return load_adapter(directory, base=base)


def with_transformers(directory, base):
    base.load_adapter(str(directory))
    return base


def with_transformers_by_position(directory, base):
    base.load_adapter(str(directory), "vessels")
    return base


def with_transformers_from_pretrained(directory, base):
    return TopoSamForSegmentation.from_pretrained(directory, **base_settings(base))


def base_settings(base) -> dict:
    return {key: getattr(base.config, key) for key in ("detail_channels", "detail_context", "image_size", "tile_size")}


DOORS = [
    with_peft,
    with_load_adapter,
    with_transformers,
    with_transformers_by_position,
    with_transformers_from_pretrained,
]
LORA_KEY = "base_model.model.sam.vision_encoder.layers.0.mlp.lin1.lora_B.weight"
DECODER_KEY = "base_model.model.sam.mask_decoder.upscale_conv1.weight"
SCALING_KEY = "base_model.model.tile_scaling.settings"


def tiny(**settings) -> TopoSamForSegmentation:
    return TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=64, tile_size=48, **settings)


def edit_file(directory, edit) -> None:
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("of_adapter", [True, False])
def test_context_that_only_one_side_has_is_named(make_adapter, door, of_adapter):
    base = "topolora_hf/tiny-random"
    _, directory = make_adapter("topolora", base, detail_context=of_adapter)
    other = TopoSamForSegmentation.from_pretrained(base, image_size=64, tile_size=48, detail_context=not of_adapter)
    with pytest.raises((AdapterMismatchError, KeyError), match=r"detail_branch.*\bcontext\.0\."):  # PEFT's own KeyError
        door(directory, other)


def test_a_base_never_loses_the_context_it_learnt(tmp_path):
    tiny(detail_context=True).save_pretrained(tmp_path)
    lost = r"trained with context.*no place for detail_branch\.context\.0\."
    with pytest.raises(ValueError, match=lost):
        TopoSamForSegmentation.from_pretrained(tmp_path, detail_context=False)
    with pytest.raises(ValueError, match=f"topolora_hf/tiny was {lost}"):
        tiny(detail_context=False)
    assert TopoSamForSegmentation.from_pretrained(tmp_path, detail_channels=0).detail_branch is None
    network, loading_info = TopoSamForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert network.detail_branch.context is not None
    assert not loading_info["unexpected_keys"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("of_adapter, of_base", [(16, 8), (16, 0), (0, 16)])
def test_another_number_of_detail_channels_is_an_error_that_says_both(make_adapter, door, of_adapter, of_base):
    _, directory = make_adapter("topolora", detail_channels=of_adapter)
    with pytest.raises(AdapterMismatchError) as caught:
        door(directory, tiny(detail_channels=of_base))
    message = str(caught.value)
    assert f"detail_channels={of_adapter}" in message and f"detail_channels={of_base}" in message


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [LORA_KEY, DECODER_KEY, SCALING_KEY])
def test_a_deleted_tensor_is_an_error_that_names_it(make_adapter, door, key):
    _, directory = make_adapter("topolora")
    edit_file(directory, lambda tensors: tensors.pop(key))
    with pytest.raises((AdapterMismatchError, KeyError)) as caught:
        door(directory, tiny())
    module = key.removeprefix("base_model.model.").rsplit(".", 1)[0]
    assert module in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "key", ["base_model.model.extra.weight", "base_model.model.sam.vision_encoder.layers.9.mlp.lin1.lora_B.weight"]
)
def test_an_added_tensor_is_an_error_that_names_it(make_adapter, door, key):
    _, directory = make_adapter("topolora")
    edit_file(directory, lambda tensors: tensors.update({key: torch.zeros(3)}))
    with pytest.raises(AdapterMismatchError) as caught:
        door(directory, tiny())
    assert key.removeprefix("base_model.model.").rsplit(".", 1)[0] in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [LORA_KEY, DECODER_KEY])
def test_a_reshaped_tensor_is_an_error_that_names_it(make_adapter, door, key):
    _, directory = make_adapter("topolora")
    edit_file(directory, lambda tensors: tensors.update({key: tensors[key][:-1].clone()}))
    with pytest.raises(AdapterMismatchError, match=r"has shape \(.*\), the base expects \(") as caught:
        door(directory, tiny())
    assert key.removeprefix("base_model.model.").rsplit(".", 1)[0] in str(caught.value)


@pytest.mark.parametrize("preset", ["topolora", "paper", "lora_only"])
def test_peft_refuses_a_bare_sam_by_its_lora_targets(make_adapter, stock_sam, preset):
    _, directory = make_adapter(preset, base=stock_sam())
    with pytest.raises(ValueError, match=r"Target modules sam.*lin\[12\] not found in the base model"):
        PeftModel.from_pretrained(SamModel.from_pretrained(stock_sam()), directory)


@pytest.mark.parametrize("preset", ["decoder_only", "adapter_only"])
def test_peft_refuses_a_bare_sam_by_the_decoders_tensors(make_adapter, stock_sam, preset):
    _, directory = make_adapter(preset, base=stock_sam())
    with pytest.raises(KeyError, match=r"base_model\.model\.mask_decoder\."):
        PeftModel.from_pretrained(SamModel.from_pretrained(stock_sam()), directory)


@pytest.mark.parametrize("preset", ["topolora", "seglab", "decoder_only", "detail_only"])
def test_load_adapter_refuses_a_bare_sam_by_its_class(make_adapter, stock_sam, preset):
    _, directory = make_adapter(preset, base=stock_sam())
    with pytest.raises(AdapterMismatchError, match="must be a TopoSamForSegmentation, got a SamModel"):
        load_adapter(directory, base=SamModel.from_pretrained(stock_sam()))


def test_an_adapter_of_another_spatial_adapter_form_is_an_error(make_adapter):
    _, directory = make_adapter("seglab")
    with pytest.raises(AdapterMismatchError, match="spatial_adapter"):
        load_adapter(directory, base=tiny(detail_channels=0))


def test_a_base_of_another_width_is_an_error(make_adapter, stock_sam):
    _, directory = make_adapter("topolora")
    with pytest.raises(RuntimeError, match="lin1.lora_A"):
        load_adapter(directory, base=stock_sam())


def test_the_bases_own_weights_still_load_beside_an_adapter(make_adapter):
    model, _ = make_adapter("topolora")
    network = model.get_base_model()
    network.load_state_dict({"sam.vision_encoder.pos_embed": network.sam.vision_encoder.pos_embed + 1}, strict=False)


def test_load_adapter_names_a_tensor_that_carries_no_peft_prefix(make_adapter):
    _, directory = make_adapter("topolora")
    edit_file(directory, lambda tensors: tensors.update({"foreign.weight": torch.zeros(3)}))
    with pytest.raises(AdapterMismatchError, match=r"adapter_model\.safetensors.*foreign\.weight"):
        load_adapter(directory)


def test_load_adapter_names_a_truncated_file(make_adapter):
    _, directory = make_adapter("topolora")
    file = directory / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AdapterMismatchError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapter(directory)
