"""An adapter from a stranger: what its files may not say, by whichever door of this package they come in."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from topolora_hf.adapter_format import checks, settings
from topolora_hf.adapter_format.checks import check_adapter_config, check_adapter_tensors
from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

LORA_A = "base_model.model.sam.vision_encoder.layers.0.mlp.lin1.lora_A.weight"
SCALING = "base_model.model.tile_scaling.settings"


@pytest.fixture
def adapter(make_adapter):
    """A directory of one's own to spoil."""
    return make_adapter("topolora")[1]


def edit_config(directory, **changes):
    file = directory / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file


def edit_settings(directory, **changes):
    file = directory / "topolora_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file


def by_transformers(directory):
    return TopoSamForSegmentation.from_pretrained(directory)


def by_transformers_on_a_base(directory):
    TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=64, tile_size=48).load_adapter(str(directory))


DOORS = [load_adapter, by_transformers, by_transformers_on_a_base]


@pytest.mark.parametrize("door", [load_adapter, by_transformers])
def test_the_files_of_an_adapter_are_checked_and_read_once(adapter, door, monkeypatch):
    opened = []

    def counted(function):
        return lambda file, *args, **kwargs: opened.append(Path(file).name) or function(file, *args, **kwargs)

    for module, name in ((checks, "safe_open"), (checks, "read_json_object"), (settings, "read_json_object")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    door(adapter)
    of_tiny = ["topolora_config.json"]  # the embedded base has settings of its own
    assert sorted(opened) == sorted(
        ["adapter_config.json", "adapter_model.safetensors", "topolora_config.json", *of_tiny]
    )


@pytest.mark.parametrize("door", DOORS)
def test_no_module_that_an_adapter_names_is_imported(adapter, door, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    mapping = {"base_model_class": "TopoSamForSegmentation", "parent_library": "evil_module"}
    for changes in ({"megatron_config": {}, "megatron_core": "evil_module"}, {"auto_mapping": mapping}):
        original = (adapter / "adapter_config.json").read_text()
        edit_config(adapter, **changes)
        with pytest.raises(
            ValueError, match=r"adapter_config\.json: (megatron_c|auto_mapping must be \{.*topolora_hf)"
        ):
            door(adapter)
        (adapter / "adapter_config.json").write_text(original)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("door", DOORS)
def test_weights_that_are_not_finite_are_refused_by_name(adapter, door):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[LORA_A][0, 0], tensors[LORA_A][0, 1] = float("nan"), float("inf")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(AdapterMismatchError, match=rf"safetensors cannot be used: {LORA_A} holds 2 values .*NaN"):
        door(adapter)


CONFIGS = {
    "r": (10**6, "a whole number from 1 to 1024, got 1000000"),
    "lora_alpha": ("16", "a number, got '16'"),
    "lora_dropout": (float("nan"), "a number from 0 to 1, got nan"),
    "target_modules": ("(a+)+$", r"the pattern that topolora_hf writes, or a list of names, got '\(a"),
    "modules_to_save": (["tile_scaling", 3], "a list of names"),
    "rank_pattern": ({"(a+)+$": 4}, r"\{\}, as adapters of topolora_hf have it"),
    "layer_replication": ([[0, 6]] * 1000, "None, as adapters"),
    "init_lora_weights": ("pissa", "true or false, got 'pissa'"),
    "peft_type": ("XLORA", "LORA, got 'XLORA'"),
    "loftq_config": ({"loftq_bits": 4}, r"\{\}, as adapters of topolora_hf have it"),
    "use_dora": ("yes", "true or false, got 'yes'"),
    "lora_bias": (True, "False, as adapters"),
    "base_model_name_or_path": (["a"], "a text of at most 1000 characters or null"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_of_peft_that_no_adapter_needs_are_refused_by_name(adapter, name):
    value, message = CONFIGS[name]
    file = edit_config(adapter, **{name: value})
    with pytest.raises(ValueError, match=rf"{file}: {name} must be {message}"):
        check_adapter_config(file)


def test_what_this_package_and_plain_peft_write_is_accepted(adapter):
    layers = r"sam\.vision_encoder\.(?:layers\.10\.mlp\.lin1|layers\.11\.attn\.qkv)"
    for changes in (
        {"target_modules": layers},
        {"use_dora": True},
        {"target_modules": ["lin1", "lin2"]},
        {"a_field_of_tomorrow": 1},
    ):
        assert check_adapter_config(edit_config(adapter, **changes))["r"] == 16


@pytest.mark.parametrize("name", ["topolora_config.json", "adapter_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not a JSON file"),
        (b"\xff{}", "is not a JSON file"),
        (b"[" * 100_000, "nested too deeply"),
        (b"7", "must hold an object, got int"),
        (b'{"r": ' + b"9" * 5_000 + b"}", "is not a JSON file"),
        (b" " * 2**21 + b"{}", "has 2,097,154 bytes; settings have at most"),
    ],
)
def test_what_is_no_json_of_settings_is_named(adapter, name, content, message):
    (adapter / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} .*{message}|{name} {message}"):
        load_adapter(adapter)


SETTINGS = {
    "image_size": (10**9, "a multiple of 16 from 16 to 8192, got 1000000000"),
    "tile_size": ("48", "a multiple of 4 from 16 to 16384, got '48'"),
    "detail_channels": (True, "a whole number from 0 to 512, got True"),
    "threshold": (float("nan"), "a number from 0 to 1, or one for each class, got nan"),
    "temperature": ([1, 0], r"a positive number, or one for each class, got \[1, 0\]"),
    "logit_bias": (None, "a number, or one for each class, got None"),
    "test_time_scales": ([1, -1], r"one to 16 numbers from 0.1 to 10, got \[1, -1\]"),
    "image_mean": ([0.5], r"three numbers, got \[0.5\]"),
    "image_std": ([0.2, 0.2, 0], "three positive numbers"),
    "labels": (["a", "b", "a"], r"one to 1000 different names, got \['a', 'b', 'a'\]"),
    "exclusive": (1, "true or false, got 1"),
    "view": ("sideways", "tiles or full, got 'sideways'"),
    "use_sam": ("no", "true or false, got 'no'"),
    "intensity": ([1, 2], "an object or null"),
    "fov_diameter": (-3, "a positive number up to 20000 or null"),
    "fov_colours": ([0.5] * 6, "an object or null"),
    "spatial_adapter_form": ("round", "paper or seglab, got 'round'"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_absurd_settings_are_refused_by_name(adapter, name):
    value, message = SETTINGS[name]
    file = edit_settings(adapter, **{name: value})
    with pytest.raises(ValueError, match=f"{file}: {name} must be {message}"):
        AdapterSettings.from_pretrained(adapter)


@pytest.mark.parametrize(
    "intensity",
    [{"low": "a", "high": "b"}, {"low": 0}, {"low": 0, "high": float("inf")}, {"low": 0, "high": 1, "x": 1}],
)
def test_an_absurd_intensity_range_is_refused_by_the_files_name(adapter, intensity):
    file = edit_settings(adapter, intensity=intensity)
    with pytest.raises(ValueError, match=f"{file}: "):
        AdapterSettings.from_pretrained(adapter)


@pytest.mark.parametrize(
    "colours",
    [{"lowest": [0.1] * 6, "typical": [0.2] * 6}, {"lowest": [0.3] * 6, "typical": [0.2] * 6, "highest": [0.4] * 6}],
)
def test_absurd_colours_are_refused_by_the_files_name(adapter, colours):
    file = edit_settings(adapter, fov_colours=colours)
    with pytest.raises(ValueError, match=f"{file}: "):
        AdapterSettings.from_pretrained(adapter)


@pytest.mark.parametrize(
    "base", ["/etc", "../../secrets", "~/sam", "a/b/c", "..", "org/..", "C:\\sam", "a\nb", 7, None]
)
def test_a_base_that_is_a_path_is_refused(adapter, base):
    edit_settings(adapter, base=base)
    with pytest.raises(ValueError, match=r"topolora_config\.json: base must be a public name .* never a path, got"):
        load_adapter(adapter)


def test_the_base_that_adapter_config_names_is_not_looked_for(adapter):
    edit_config(adapter, base_model_name_or_path="/somewhere/else")
    assert load_adapter(adapter).get_base_model().name_or_path == "topolora_hf/tiny"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (LORA_A, torch.zeros(16, 256, dtype=torch.int32), "is torch.int32; float16"),
        (LORA_A, torch.zeros(4, 256), r"has shape \(4, 256\), but adapter_config.json says r=16"),
        (SCALING, torch.tensor([64]), "4 or 5 int64 are needed"),
        (SCALING, torch.tensor([10**12, 48, 16, 1]), "image_size must be a multiple of 16 from 16 to 8192"),
        (SCALING, torch.tensor([64, 46, 16, 1]), "tile_size must be a multiple of 4"),
        (SCALING, torch.tensor([64, 48, 0, 0]), "detail_channels=0 leaves out the detail branch and use_sam=False"),
        (SCALING, torch.tensor([64, 48, 16, 1, 0]), "num_labels must be a whole number from 1 to 1000, got 0"),
        (SCALING, torch.tensor([64, 48, 16, 7]), "use_sam must be 0 or 1, got 7"),
    ],
)
def test_tensors_of_another_type_or_size_are_refused_by_name(tmp_path, name, tensor, message):
    save_file({name: tensor}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatchError, match=f"adapter_model.safetensors cannot be used: {name}:? .*{message}"):
        check_adapter_tensors(tmp_path / "adapter_model.safetensors", rank=16)


@pytest.mark.parametrize("header_bytes", [2**63, 2**40, 10**8, 0])
def test_a_header_of_absurd_length_is_refused(tmp_path, header_bytes):
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(header_bytes.to_bytes(8, "little") + b"{}")
    with pytest.raises(AdapterMismatchError, match=f"{file} cannot be read as safetensors"):
        check_adapter_tensors(file, rank=16)


def test_a_pickle_beside_or_in_place_of_the_tensors_is_never_read(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    for door in DOORS:
        with pytest.raises(FileNotFoundError, match=r"holds no adapter_model\.safetensors"):
            door(adapter)


def test_a_base_in_pickles_alone_is_refused(stock_sam, tmp_path):
    base = TopoSamForSegmentation.from_pretrained(stock_sam())
    base.config.save_pretrained(tmp_path)
    torch.save(base.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        TopoSamForSegmentation.from_pretrained(tmp_path)


def test_a_base_does_not_choose_code_from_the_hub(stock_sam, tmp_path):
    TopoSamForSegmentation.from_pretrained(stock_sam()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["attn_implementation"] = config["vision_config"]["_attn_implementation"] = "someone/kernel"
    config["auto_map"] = {"AutoModel": "someone/code--modeling.Network"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = TopoSamForSegmentation.from_pretrained(tmp_path)
    assert "someone/kernel" not in str(network.config._attn_implementation)
    assert "someone/kernel" not in str(network.config.vision_config._attn_implementation)
