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
    base.load_adapter(str(directory), "vessels")
    return base


DOORS = [with_peft, with_load_adapter, with_transformers]
LORA_KEY = "base_model.model.sam.vision_encoder.layers.0.mlp.lin1.lora_B.weight"
DECODER_KEY = "base_model.model.sam.mask_decoder.upscale_conv1.weight"
SCALING_KEY = "base_model.model.tile_scaling.settings"


@pytest.fixture
def damaged_adapter(make_adapter, stock_sam):
    """`damaged_adapter(edit, **settings)`: the directory of an adapter of the small SAM, its tensors edited."""

    def make(edit=None, **settings):
        _, directory = make_adapter("topolora", base=stock_sam(), **settings)
        if edit is not None:
            edit_file(directory, edit)
        return directory

    return make


def edit_file(directory, edit) -> None:
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def module_of(key: str) -> str:
    return key.removeprefix("base_model.model.").rsplit(".", 1)[0]


@pytest.mark.parametrize("door", DOORS)
def test_context_that_only_one_side_has_is_named(damaged_adapter, small_network, door):
    for of_adapter in (True, False):
        directory = damaged_adapter(detail_context=of_adapter)
        with pytest.raises(AdapterMismatchError, match=f"detail_context={of_adapter}, this base .*={not of_adapter}"):
            door(directory, small_network(detail_context=not of_adapter))


@pytest.mark.parametrize("door", DOORS)
def test_another_number_of_detail_channels_is_an_error_that_says_both(damaged_adapter, small_network, door):
    for of_adapter, of_base in ((16, 8), (16, 0)):
        with pytest.raises(AdapterMismatchError) as caught:
            door(damaged_adapter(detail_channels=of_adapter), small_network(detail_channels=of_base))
        message = str(caught.value)
        assert f"detail_channels={of_adapter}" in message and f"detail_channels={of_base}" in message


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [LORA_KEY, DECODER_KEY, SCALING_KEY])
def test_a_deleted_tensor_is_an_error_that_names_it(damaged_adapter, small_network, door, key):
    with pytest.raises((AdapterMismatchError, KeyError)) as caught:
        door(damaged_adapter(lambda tensors: tensors.pop(key)), small_network())
    assert module_of(key) in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", ["base_model.model.extra.weight", LORA_KEY.replace("layers.0", "layers.9")])
def test_an_added_tensor_is_an_error_that_names_it(damaged_adapter, small_network, door, key):
    with pytest.raises(AdapterMismatchError) as caught:
        door(damaged_adapter(lambda tensors: tensors.update({key: torch.zeros(3)})), small_network())
    assert module_of(key) in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [LORA_KEY, DECODER_KEY])
def test_a_reshaped_tensor_is_an_error_that_names_it(damaged_adapter, small_network, door, key):
    directory = damaged_adapter(lambda tensors: tensors.update({key: tensors[key][:-1].clone()}))
    with pytest.raises(AdapterMismatchError, match=r"has shape \(.*\), the base expects \(") as caught:
        door(directory, small_network())
    assert module_of(key) in str(caught.value)


def test_from_pretrained_and_a_name_left_out_are_as_strict(make_adapter):
    """The doors that take no base, or no name: the same check stands behind them."""
    _, directory = make_adapter("topolora")
    edit_file(directory, lambda tensors: tensors.pop(DECODER_KEY))
    for load in (TopoSamForSegmentation.from_pretrained, load_adapter):
        with pytest.raises(AdapterMismatchError, match=f"missing .*{module_of(DECODER_KEY)}"):
            load(directory)
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=64, tile_size=48)
    with pytest.raises(AdapterMismatchError, match="missing .*mask_decoder.upscale_conv1"):
        network.load_adapter(str(directory))


def test_a_base_is_read_whole_or_a_part_is_left_out_whole(small_network, tmp_path):
    small_network().save_pretrained(tmp_path)
    asked_for = {
        "detail_context=False": r"no place for detail_branch\.context\.0\.",
        "detail_channels=8": r"detail_branch\.context\.0\.\S+ has shape \(64, .*the base expects \(32, .* and \d+ more",
        "spatial_adapter_form=seglab": r"no place for spatial_adapter\.refine\.0\.bias",
    }
    for text, message in asked_for.items():
        name, value = text.split("=")
        settings = {name: {"False": False}.get(value, int(value) if value.isdigit() else value)}
        with pytest.raises(ValueError, match=f"{tmp_path} was stored in another form than .*{text}.*{message}"):
            TopoSamForSegmentation.from_pretrained(tmp_path, **settings)
    assert TopoSamForSegmentation.from_pretrained(tmp_path, detail_channels=0).detail_branch is None
    network, loading_info = TopoSamForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert network.detail_branch.context is not None
    assert not loading_info["unexpected_keys"]


@pytest.mark.parametrize("settings", [{"detail_context": False}, {"detail_channels": 32}])
def test_an_embedded_base_is_read_as_strictly(settings):
    with pytest.raises(ValueError, match="topolora_hf/tiny was stored in another form .* detail_branch"):
        TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", **settings)


@pytest.mark.parametrize(
    ("preset", "error", "message"),
    [
        ("lora_only", ValueError, r"Target modules sam.*lin\[12\] not found in the base model"),
        ("decoder_only", KeyError, r"base_model\.model\.mask_decoder\."),
        ("adapter_only", KeyError, r"base_model\.model\.mask_decoder\."),
    ],
)
def test_peft_refuses_a_bare_sam(make_adapter, stock_sam, preset, error, message):
    _, directory = make_adapter(preset, base=stock_sam())
    with pytest.raises(error, match=message):
        PeftModel.from_pretrained(SamModel.from_pretrained(stock_sam()), directory)
    with pytest.raises(AdapterMismatchError, match="must be a TopoSamForSegmentation, got a SamModel"):
        load_adapter(directory, base=SamModel.from_pretrained(stock_sam()))


def test_an_adapter_of_another_spatial_adapter_form_is_an_error(make_adapter, stock_sam, small_network):
    _, directory = make_adapter("seglab", base=stock_sam())
    with pytest.raises(AdapterMismatchError, match="spatial_adapter"):
        load_adapter(directory, base=small_network(detail_channels=0))


def test_a_base_of_another_width_is_an_error(make_adapter, stock_sam):
    _, directory = make_adapter("topolora")
    with pytest.raises(RuntimeError, match="lin1.lora_A"):
        load_adapter(directory, base=stock_sam())


def test_the_bases_own_weights_still_load_beside_an_adapter(make_adapter, stock_sam):
    model, _ = make_adapter("topolora", base=stock_sam())
    network = model.get_base_model()
    network.load_state_dict({"sam.vision_encoder.pos_embed": network.sam.vision_encoder.pos_embed + 1}, strict=False)


def test_load_adapter_names_a_tensor_that_carries_no_peft_prefix(damaged_adapter):
    with pytest.raises(AdapterMismatchError, match=r"adapter_model\.safetensors.*foreign\.weight"):
        load_adapter(damaged_adapter(lambda tensors: tensors.update({"foreign.weight": torch.zeros(3)})))


def test_load_adapter_names_a_truncated_file(damaged_adapter):
    file = damaged_adapter() / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AdapterMismatchError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapter(file.parent)
