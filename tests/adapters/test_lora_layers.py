"""LoRA in the last layers of the encoder only."""

import pytest
import torch

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter


def test_lora_in_the_last_layers_only_comes_back_whole(stock_sam, small_network, tmp_path):
    network = small_network(detail_channels=0, tile_size=64)
    model = create_adapter(network, "paper", lora_layers=1)
    adapted = {name.split(".layers.")[1][0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {"1"}
    settings = AdapterSettings(base=stock_sam(), preset="paper", image_size=64, tile_size=64, detail_channels=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    save_adapter(model, settings, tmp_path)
    again = load_adapter(tmp_path, base=stock_sam())
    tiles = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(pixel_values=tiles).logits, model.eval()(pixel_values=tiles).logits)


@pytest.mark.parametrize(
    ("preset", "layers", "words"),
    [("paper", 3, "needs 1 to 2"), ("paper", 0, "needs 1"), ("decoder_only", 1, "no LoRA")],
)
def test_impossible_lora_layers_are_refused(small_network, preset, layers, words):
    network = small_network(detail_channels=0)
    with pytest.raises(ValueError, match=f"lora_layers={layers}.*{words}"):
        create_adapter(network, preset, lora_layers=layers)
