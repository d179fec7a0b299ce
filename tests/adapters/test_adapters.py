import hashlib
import json
import warnings
from dataclasses import asdict

import pytest
import torch
from peft import AutoPeftModel, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from topolora_hf.adapter_format.families import FAMILIES
from topolora_hf.adapter_format.names import public_base_name
from topolora_hf.adapter_format.presets import preset_network_settings
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.adapters.parameters import parameter_table
from topolora_hf.metrics.platt_scaling import Calibration, PlattScaling
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.embedded import PRETRAINED
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss

TINY = "topolora_hf/tiny"
TILES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(model, tiles: torch.Tensor = TILES) -> torch.Tensor:
    return model.eval()(tiles).logits


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor, relative: float = 1e-5) -> None:
    torch.testing.assert_close(logits, expected, rtol=0, atol=relative * expected.abs().max().item())


def trainable(model) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


# Loading: every door, every preset


@pytest.mark.parametrize("preset", ["topolora", pytest.param("seglab", marks=pytest.mark.slow)])
def test_an_adapter_on_a_stock_sam_comes_back_by_every_door(make_adapter, stock_sam, small_network, preset):
    model, directory = make_adapter(preset, base=stock_sam(), image_size=32)
    expected = logits_of(model)
    loaded = load_adapter(directory, base=stock_sam())
    assert torch.equal(logits_of(loaded), expected)
    assert not trainable(loaded) and loaded.adapter_settings.preset == preset

    for door in (PeftModel.from_pretrained, lambda network, folder: load_adapter(folder, base=network)):
        base = small_network(image_size=48, tile_size=64, **preset_network_settings(preset))
        logits_of(base, torch.zeros(1, 3, 64, 64))  # whatever the base remembers of its own sizes must give way
        assert torch.equal(logits_of(door(base, directory)), expected)

    base = small_network(image_size=48, **preset_network_settings(preset))
    base.load_adapter(str(directory))
    for name, parameter in trainable(model.get_base_model()).items():
        assert torch.equal(base.get_parameter(name), parameter), name
    assert torch.equal(base.tile_scaling.settings, model.get_base_model().tile_scaling.settings)
    # transformers keeps the file's tensors where they lie in memory, which costs some kernels the last bit
    assert_same_logits(logits_of(base), expected)


@pytest.mark.parametrize("preset", ["topolora", pytest.param("detail_only", marks=pytest.mark.slow)])
def test_an_adapter_on_tiny_brings_its_base(make_adapter, preset):
    model, directory = make_adapter(preset)
    assert torch.equal(logits_of(load_adapter(directory)), logits_of(model))
    assert_same_logits(logits_of(TopoSamForSegmentation.from_pretrained(directory)), logits_of(model))
    loaded = AutoPeftModel.from_pretrained(directory, import_allowlist=["topolora_hf"])
    assert torch.equal(logits_of(loaded), logits_of(model))


def test_a_bases_name_gives_that_base_as_it_comes():
    for name in ("tiny", TINY):
        network = load_adapter(name)
        assert type(network) is TopoSamForSegmentation and not network.training
        assert network.adapter_settings.base == TINY and network.adapter_settings.fov_diameter
    with pytest.raises(ValueError, match="tiny is a whole network, which has no base; got base topolora_hf/tiny"):
        load_adapter("tiny", base=TINY)


def test_a_directory_of_a_base_is_loaded_with_the_form_that_it_has(small_network, tmp_path):
    small_network(detail_channels=4).save_pretrained(tmp_path)
    network = load_adapter(tmp_path)
    assert network.adapter_settings.form == network.config.form
    assert (network.adapter_settings.detail_channels, network.adapter_settings.tile_size) == (4, 48)


def test_an_adapter_is_no_base(make_adapter, tmp_path):
    _, directory = make_adapter()
    with pytest.raises(ValueError, match=f"on the base {directory}: that is an adapter itself"):
        load_adapter(directory, base=str(directory))
    settings = AdapterSettings.from_pretrained(directory)
    settings.base = "mine"
    settings.save(directory)
    with pytest.raises(FileNotFoundError, match=f"cannot load {directory} on the base mine: nothing at mine"):
        load_adapter(directory)


def test_a_loaded_adapter_can_go_on_training(make_adapter, small_network, stock_sam):
    model, directory = make_adapter("topolora", base=stock_sam())
    loaded = load_adapter(directory, base=small_network(), is_trainable=True)
    assert loaded.training
    assert trainable(loaded).keys() == trainable(model).keys()


def test_an_adapter_of_a_base_of_another_name_gets_a_warning(make_adapter):
    _, directory = make_adapter("topolora")
    form = asdict(AdapterSettings.from_pretrained(directory).form)
    with pytest.warns(
        UserWarning, match="was trained on the base topolora_hf/tiny; this one is topolora_hf/tiny-random"
    ):
        model = load_adapter(directory, base="topolora_hf/tiny-random")
    with pytest.warns(UserWarning, match="this one is topolora_hf/tiny-random"):
        model.load_adapter(directory, "again")
    nameless = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny-random", **form)
    nameless.name_or_path = ""  # as a network that was built, not loaded
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_adapter(directory, base=nameless)


def test_an_adapter_of_other_weights_of_the_same_name_gets_a_warning(make_adapter):
    _, directory = make_adapter("topolora")
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    present = hashlib.sha256((PRETRAINED[TINY] / "model.safetensors").read_bytes()).hexdigest()[:12]
    assert config["revision"] == present
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert merge_adapter(load_adapter(directory)).revision is None, "its weights are the base's no more"

    file.write_text(json.dumps(config | {"revision": "0" * 12}))
    message = f"base topolora_hf/tiny of revision {'0' * 12}; this one is topolora_hf/tiny of revision {present}"
    with pytest.warns(UserWarning, match=message):
        load_adapter(directory)
    with pytest.warns(UserWarning, match=message):
        TopoSamForSegmentation.from_pretrained(directory)


def test_another_base_in_a_folder_of_the_same_name_gets_a_warning(small_network, fill_with_random_weights, tmp_path):
    bases = [tmp_path / name / "network" for name in "abc"]
    for number, base in enumerate(bases):
        network = small_network()
        fill_with_random_weights(network.spatial_adapter, seed=number % 2)
        network.save_pretrained(base)
    model = create_adapter(TopoSamForSegmentation.from_pretrained(bases[0]), "topolora")
    save_adapter(model, model.adapter_settings, tmp_path / "adapter")
    with pytest.warns(UserWarning, match="trained on the base network of revision .* this one is network of revision"):
        load_adapter(tmp_path / "adapter", base=bases[1])
    file = tmp_path / "adapter" / "adapter_config.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_adapter(tmp_path / "adapter", base=bases[2])  # a copy
        file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": None}))  # as adapters had it once
        load_adapter(tmp_path / "adapter", base=bases[1])


def test_an_adapter_starts_from_the_trained_parts_of_a_whole_base(stock_sam, fill_with_random_weights, tmp_path):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), tile_size=48)
    fill_with_random_weights(network.spatial_adapter, seed=1)
    fill_with_random_weights(network.detail_branch, seed=2).eval()
    network.save_pretrained(tmp_path / "trained-base")
    expected = logits_of(network)
    model = create_adapter(TopoSamForSegmentation.from_pretrained(tmp_path / "trained-base"), "topolora")
    assert_same_logits(logits_of(model), expected)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1)
    with model.disable_adapter():
        assert_same_logits(logits_of(model), expected)


# What is trained, and what is in the file


def vit_b(preset: str, **settings) -> TopoSamForSegmentation:
    """Full ViT-B without memory: for counting."""
    with torch.device("meta"):
        return TopoSamForSegmentation(TopoSamConfig(**{**preset_network_settings(preset), **settings}))


def trainable_by_part(model) -> dict[str, int]:
    return {row["part"]: row["trainable"] for row in parameter_table(model) if row["trainable"]}


def test_seglab_trains_the_published_number_of_parameters():
    table = trainable_by_part(create_adapter(vit_b("seglab"), "seglab"))
    assert table == {"LoRA": 737_280, "spatial adapter": 133_888, "mask decoder": 4_058_340, "all": 4_929_508}


def test_paper_and_topolora_by_part():
    paper = trainable_by_part(create_adapter(vit_b("paper"), "paper"))
    # The living decoder: the whole one less the IoU head and hypernetworks 1 to 3 (each 256-256-256-{4, 32}).
    hidden = 2 * (256 * 256 + 256)
    living = 4_058_340 - (hidden + 256 * 4 + 4) - 3 * (hidden + 256 * 32 + 32)
    assert paper == {
        "LoRA": 2 * 737_280,
        "spatial adapter": 68_352,
        "mask decoder": living,
        "all": 2 * 737_280 + 68_352 + living,
    }
    topolora = trainable_by_part(create_adapter(vit_b("topolora"), "topolora"))
    detail = topolora.pop("detail branch")
    assert detail == 603_617
    assert topolora == {**paper, "all": paper["all"] + detail}


def test_rank_16_with_the_papers_adapter_and_the_whole_decoder_is_5_601_252():
    modules = ["tile_scaling", "spatial_adapter", "sam.mask_decoder"]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=FAMILIES["sam"].lora_targets(), modules_to_save=modules)
    assert trainable_by_part(get_peft_model(vit_b("paper"), config))["all"] == 5_601_252


def test_the_table_adds_up_and_counts_what_peft_keeps_twice_once():
    network = vit_b("topolora")
    before = sum(parameter.numel() for parameter in network.parameters())
    model = create_adapter(network, "topolora")
    *parts, everything = parameter_table(model)
    assert everything["part"] == "all"
    assert everything["total"] == sum(row["total"] for row in parts) == before + 2 * 737_280
    assert everything["trainable"] == sum(parameter.numel() for parameter in trainable(model).values())


def gradients_of_three_steps(model) -> list[dict[str, torch.Tensor | None]]:
    labels = torch.zeros(2, 48, 48, dtype=torch.long)
    labels[:, 10:14] = labels[:, :, 30:33] = 1
    model.train()
    model.get_base_model().criterion = TopoLoss(iterations=3)
    optimizer = torch.optim.SGD(trainable(model).values(), lr=0.1)
    gradients = []
    for _ in range(3):  # a layer before two that start at zero learns from the third on
        optimizer.zero_grad()
        model(TILES, labels=labels).loss.backward()
        gradients.append({name: p.grad if p.grad is None else p.grad.clone() for name, p in trainable(model).items()})
        optimizer.step()
    return gradients


LIVING_PRESETS = ["topolora", "paper", "lora_only", "adapter_only", "decoder_only", "detail_only"]


@pytest.mark.parametrize("preset", LIVING_PRESETS)
def test_every_trained_parameter_learns_and_no_tensor_of_the_file_is_dead(
    make_adapter, stock_sam, small_network, preset
):
    model, directory = make_adapter(preset, stock_sam())
    network = small_network(**preset_network_settings(preset))
    first, _, last = gradients_of_three_steps(create_adapter(network, preset))
    assert [name for name, gradient in first.items() if gradient is None] == []
    assert [name for name, gradient in last.items() if gradient is None or not gradient.any()] == []

    in_file = set(load_file(directory / "adapter_model.safetensors")) - {"base_model.model.tile_scaling.settings"}
    learnt = {name.replace("modules_to_save.default.", "").replace(".default.", ".") for name in last}
    assert in_file == learnt


def test_without_sam_nothing_of_sam_counts(make_adapter, stock_sam, small_network, fill_with_random_weights):
    model, directory = make_adapter("detail_only", stock_sam())
    expected = logits_of(model)
    base = small_network()  # a base that does use SAM
    fill_with_random_weights(base.sam, seed=3)
    loaded = PeftModel.from_pretrained(base, directory)
    assert torch.equal(logits_of(loaded), expected)
    with loaded.disable_adapter():
        assert loaded.get_base_model().tile_scaling.use_sam
        assert not torch.equal(logits_of(loaded), expected)


def test_seglabs_running_statistics_are_in_the_file(make_adapter, stock_sam, small_network):
    _, directory = make_adapter("seglab", stock_sam())
    network = small_network(**preset_network_settings("seglab"))
    model = create_adapter(network, "seglab").train()
    model(TILES)
    settings = AdapterSettings.from_pretrained(directory)
    save_adapter(model, settings, directory)
    tensors = load_file(directory / "adapter_model.safetensors")
    assert tensors["base_model.model.spatial_adapter.refine.2.running_mean"].any()
    base = small_network(**preset_network_settings("seglab"))
    assert torch.equal(logits_of(load_adapter(directory, base=base)), logits_of(model))


# Settings and names


def test_no_file_of_an_adapter_holds_a_local_path(make_adapter, stock_sam, tmp_path):
    _, directory = make_adapter("topolora", base=stock_sam())
    again = tmp_path / "again"
    loaded = load_adapter(directory, base=stock_sam())
    save_adapter(loaded, loaded.adapter_settings, again)
    for file in [*directory.iterdir(), *again.iterdir()]:
        assert str(tmp_path.parent).encode() not in file.read_bytes(), file
    for folder in (directory, again):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "stock-sam-small"
        assert config["auto_mapping"]["parent_library"] == "topolora_hf"
        assert AdapterSettings.from_pretrained(folder).base == "stock-sam-small"
        assert not (folder / "config.json").exists()


def test_normal_use_gives_no_warning_of_peft_or_transformers(make_adapter, stock_sam):
    with warnings.catch_warnings():
        for kind in (UserWarning, FutureWarning):
            warnings.simplefilter("error", kind)
        for base in (TINY, stock_sam()):
            _, directory = make_adapter("topolora", base=base)
            load_adapter(directory, base=base)


def test_public_base_name_keeps_hub_ids_and_only_the_end_of_a_path(tmp_path):
    assert public_base_name("facebook/sam-vit-base") == "facebook/sam-vit-base"
    assert public_base_name(TINY) == TINY
    assert public_base_name(str(tmp_path / "bases" / "mine")) == "mine"
    assert public_base_name("") == ""


def test_settings_read_back_as_they_were_saved(tmp_path):
    settings = AdapterSettings(
        base=TINY,
        tile_size=96,
        detail_context=True,
        labels=("a", "b"),
        threshold=0.4,
        temperature=1.25,
        logit_bias=(-0.7, 0.2),
        exclusive=True,
        test_time_scales=(0.8, 1.25),
    )
    settings.save(tmp_path)
    assert AdapterSettings.from_pretrained(tmp_path) == settings
    scalings = PlattScaling(1.25, -0.7), PlattScaling(1.25, 0.2)
    assert settings.calibration == Calibration(scalings, exclusive=True) and settings.form.num_labels == 2
    assert settings.thresholds == (0.4, 0.4)
    assert json.loads((tmp_path / "topolora_config.json").read_text()).keys() > vars(settings.form).keys() - {
        "num_labels"
    }


@pytest.mark.parametrize(
    "text, message",
    [("{", "not a JSON file"), ("[]", "must hold an object"), ('{"base": "x", "tyle": 1}', "fields")],
)
def test_broken_settings_are_refused_with_the_files_name(tmp_path, text, message):
    (tmp_path / "topolora_config.json").write_text(text)
    with pytest.raises(ValueError, match=f"topolora_config.json.*{message}"):
        AdapterSettings.from_pretrained(tmp_path)


def test_what_is_no_adapter_is_refused_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no topolora_config\.json"):
        load_adapter(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_adapter(tmp_path / "nowhere")


def test_presets_name_what_they_need(small_network):
    network = small_network()
    with pytest.raises(ValueError, match="unknown preset 'best': one of topolora, paper"):
        create_adapter(network, "best")
    with pytest.raises(ValueError, match="'seglab' needs a base with spatial_adapter_form='seglab', .* has 'paper'"):
        create_adapter(network, "seglab")
    with pytest.raises(ValueError, match="rank=4: preset 'detail_only' has no LoRA"):
        create_adapter(network, "detail_only", rank=4)
    with pytest.raises(ValueError, match="rank=0: preset 'topolora' needs a rank of 1 or more"):
        create_adapter(network, "topolora", rank=0)


def test_another_rank_keeps_the_presets_ratio_of_alpha(small_network):
    model = create_adapter(small_network(), "topolora", rank=4)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha) == (4, 8)


@pytest.mark.parametrize("name", ["/nowhere", "a/b/c", "nowhere"])
def test_what_is_neither_a_directory_nor_a_hub_id_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"nothing at {name}: expected a directory, Meta's file"):
        load_adapter(name)


def test_a_file_that_is_no_network_is_not_said_to_be_absent(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="mine.onnx is a file of another kind: expected a directory, Meta's"):
        load_adapter(str(tmp_path / "mine.onnx"))


@pytest.mark.parametrize("door", [load_adapter, TopoSamForSegmentation.from_pretrained])
def test_the_hub_is_not_asked_for_a_base_that_was_somebodys_directory(make_adapter, stock_sam, door):
    _, directory = make_adapter("topolora", base=stock_sam())
    with pytest.raises(FileNotFoundError, match="nothing at stock-sam-small: expected a directory, Meta's file"):
        door(directory)


def test_a_misspelt_base_is_named_with_those_that_there_are():
    with pytest.raises(FileNotFoundError, match="nothing at tny: .* or one of topolora_hf/tiny, "):
        TopoSamForSegmentation.from_pretrained("tny")


def test_a_hub_adapter_without_a_connection_says_so():
    with pytest.raises(OSError, match="someone/vessels is no directory here.*the Hub cannot be reached"):
        load_adapter("someone/vessels")
