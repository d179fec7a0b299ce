import pytest
import torch
from peft import PeftModel

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.commands.convert import ConvertArguments, convert
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.network.segmenter import TopoSamForSegmentation

TILES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model.eval()(TILES).logits


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("preset", ["topolora", "paper", "seglab", "detail_only"])
def test_a_merged_network_is_a_plain_directory_with_the_same_logits(make_adapter, stock_sam, tmp_path, preset):
    _, directory = make_adapter(preset, stock_sam())
    settings = AdapterSettings.from_pretrained(directory)
    settings.threshold, settings.temperature, settings.logit_bias = 0.3, 1.5, -0.5
    settings.save(directory)
    model = load_adapter(directory, base=stock_sam())
    expected = logits_of(model)

    merged = merge_adapter(model)
    assert type(merged) is TopoSamForSegmentation and not merged.training
    assert_same_logits(logits_of(merged), expected)
    assert torch.equal(logits_of(model), expected)  # it stays as it is
    plain = TopoSamForSegmentation(merged.config).state_dict()
    assert merged.state_dict().keys() == plain.keys()
    assert Predictor(merged).settings == settings

    merged.save_pretrained(tmp_path / "merged")
    assert {file.name for file in (tmp_path / "merged").iterdir()} == {
        "config.json",
        "model.safetensors",
        "topolora_config.json",
    }
    again, info = TopoSamForSegmentation.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert_same_logits(logits_of(again), expected)
    assert AdapterSettings.from_pretrained(tmp_path / "merged") == settings


def test_the_active_adapter_is_merged(make_adapter, stock_sam):
    first, first_directory = make_adapter("topolora", stock_sam(), seed=1)
    second, second_directory = make_adapter("topolora", stock_sam(), seed=2)
    model = load_adapter(first_directory, base=stock_sam(), adapter_name="first")
    model.load_adapter(second_directory, adapter_name="second")
    model.set_adapter("second")
    assert_same_logits(logits_of(merge_adapter(model)), logits_of(second))
    model.set_adapter("first")
    assert_same_logits(logits_of(merge_adapter(model)), logits_of(first))


def test_what_peft_loaded_itself_is_merged_at_the_adapters_sizes(make_adapter, stock_sam, small_network):
    model, directory = make_adapter("paper", stock_sam())
    base = small_network(detail_channels=0, tile_size=64)
    merged = merge_adapter(PeftModel.from_pretrained(base, directory))
    assert (merged.config.image_size, merged.config.tile_size) == (64, 48)
    assert_same_logits(logits_of(merged), logits_of(model))


def test_the_command_merges_an_adapter(make_adapter, tmp_path):
    model, directory = make_adapter("topolora")
    output = convert(ConvertArguments(str(directory), str(tmp_path / "merged")))
    assert_same_logits(logits_of(TopoSamForSegmentation.from_pretrained(output)), logits_of(model))
    with pytest.raises(ValueError, match="merged is not empty"):
        convert(ConvertArguments(str(directory), str(output)))
    with pytest.raises(ValueError, match="tiny is a whole network, which has no base"):
        convert(ConvertArguments("tiny", str(tmp_path / "other"), base="tiny"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file, and a directory is to be written"):
        convert(ConvertArguments(str(directory), str(tmp_path / "file")))


@pytest.mark.parametrize("merge", [merge_adapter, lambda model: model.merge_and_unload()])
def test_an_adapter_of_a_merged_network_cannot_name_the_unmerged_base(make_adapter, stock_sam, tmp_path, merge):
    merged = merge(load_adapter(make_adapter(base=stock_sam())[1], base=stock_sam()))
    second = create_adapter(merged)
    with pytest.raises(ValueError, match="the base has no name"):
        save_adapter(second, AdapterSettings.of_network(merged), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_command_keeps_the_settings_of_a_merged_network(make_adapter, tmp_path):
    _, directory = make_adapter("paper")
    settings = AdapterSettings.from_pretrained(directory)
    settings.threshold, settings.fov_diameter = 0.3, 540.0
    settings.save(directory)
    source = str(directory)
    for name in ("merged", "again"):
        source = str(convert(ConvertArguments(source, str(tmp_path / name))))
        assert load_network(source).adapter_settings == settings
