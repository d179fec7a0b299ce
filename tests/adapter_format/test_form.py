"""The form of a network is one list: whoever holds it holds all of it."""

from dataclasses import asdict, fields, replace

import pytest

from topolora_hf.adapter_format.form import NetworkForm
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.network.configuration import TopoSamConfig

FORM = NetworkForm(
    image_size=32,
    tile_size=48,
    detail_channels=4,
    detail_context=False,
    spatial_adapter_form="seglab",
    use_sam=False,
    num_labels=2,
)


def test_every_field_of_the_form_differs_here_from_its_default():
    own = [item for item in fields(NetworkForm) if item.name != "family"]  # which the base decides
    assert all(getattr(FORM, item.name) != item.default for item in own)


def test_settings_configuration_and_network_hold_the_form_and_keep_it_in_their_files(small_network, tmp_path):
    config = TopoSamConfig(**asdict(FORM))
    assert config.form == FORM
    config.save_pretrained(tmp_path)
    assert TopoSamConfig.from_pretrained(tmp_path).form == FORM

    flat = {name: value for name, value in asdict(FORM).items() if name != "num_labels"}
    settings = AdapterSettings(base="mine", labels=("artery", "vein"), **flat)
    assert settings.form == FORM
    settings.save(tmp_path)
    assert AdapterSettings.from_pretrained(tmp_path).form == FORM

    network = small_network(**asdict(FORM))
    assert network.config.form == FORM
    assert AdapterSettings.of_network(network, labels=("artery", "vein")).form == FORM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 40}, "image_size must be a multiple of 16 from 16 to 8192, got 40"),
        ({"tile_size": 30}, "tile_size must be a multiple of 4 from 16 to 16384, got 30"),
        ({"detail_channels": -1}, "detail_channels must be a whole number from 0 to 512, got -1"),
        ({"detail_context": 1}, "detail_context must be true or false, got 1"),
        ({"spatial_adapter_form": "round"}, "spatial_adapter_form must be paper or seglab, got 'round'"),
        ({"use_sam": None}, "use_sam must be true or false, got None"),
        ({"num_labels": 0}, "num_labels must be a whole number from 1 to 1000, got 0"),
        ({"detail_channels": 0}, "detail_channels=0 leaves out the detail branch and use_sam=False SAM: nothing"),
    ],
)
def test_a_form_that_no_network_has_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FORM, **change)
