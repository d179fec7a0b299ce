"""Whoever saves an adapter, and whoever loads it: equal logits and settings, or an error that changes nothing."""

import copy
import shutil
from functools import partial

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Trainer, TrainingArguments

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import save_adapter
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.inference.loading import load_network
from topolora_hf.network.segmenter import TopoSamForSegmentation

from .doors import base, into_base, logits_of, over_itself

SHARING = ["topolora", "detail_only", "decoder_only", "paper", "lora_only", "adapter_only"]
auto = partial(AutoPeftModel.from_pretrained, import_allowlist=["topolora_hf"], tile_size=48)


@pytest.fixture(autouse=True)
def _by_its_public_name(stock_sam, monkeypatch):
    """The base is found by the name that is published: the last part of its path."""
    monkeypatch.chdir(stock_sam() + "/..")
    monkeypatch.setattr(Trainer, "create_model_card", lambda *_args, **_kwargs: None)


@pytest.fixture
def adapter(adapters_of_the_session, stock_sam, tmp_path):
    """`adapter(preset, seed=0, **form)` -> its logits and a directory; the threshold is 0.3 and the view `full`."""

    def make(preset: str = "topolora", seed: int = 0, **form):
        model, directory = adapters_of_the_session(preset, stock_sam(), seed, **form)
        copied = shutil.copytree(directory, tmp_path / f"{preset}-{seed}", dirs_exist_ok=True)
        settings = AdapterSettings.from_pretrained(copied)
        settings.threshold, settings.view = 0.3, "full"
        settings.save(copied)
        return logits_of(model), copied

    return make


def trainer(model, out) -> None:
    Trainer(model, TrainingArguments(str(out / "run"), use_cpu=True, report_to=[])).save_model(str(out))


# Each gets the directory of an adapter and one to write to. The last two write a whole network.
SAVE = {
    "save_adapter": lambda given, out: save_adapter(load_adapter(given), AdapterSettings.from_pretrained(given), out),
    "load_adapter": lambda given, out: load_adapter(given).save_pretrained(out),
    "PeftModel": lambda given, out: PeftModel.from_pretrained(base(), given).save_pretrained(out),
    "AutoPeftModel": lambda given, out: auto(given).save_pretrained(out),
    "transformers": lambda given, out: TopoSamForSegmentation.from_pretrained(given).save_pretrained(out),
    "Trainer": lambda given, out: trainer(load_adapter(given, is_trainable=True), out),
    "another name": lambda given, out: load_adapter(given, adapter_name="x").save_pretrained(out),
    "a deep copy": lambda given, out: copy.deepcopy(load_adapter(given)).save_pretrained(out),
    "merge_adapter": lambda given, out: merge_adapter(load_adapter(given)).save_pretrained(out),
    "merge_and_unload": lambda given, out: plain(given).merge_and_unload().save_pretrained(out),
}


def second(given):
    model = PeftModel.from_pretrained(base(), given)
    model.load_adapter(given, "second")
    model.delete_adapter("default")
    return model


LOAD = {
    "load_adapter": load_adapter,
    "load_network": load_network,
    "from_pretrained": TopoSamForSegmentation.from_pretrained,
    "AutoModel": AutoModel.from_pretrained,
    "PeftModel": lambda given: PeftModel.from_pretrained(base(), given),
    "PeftModel in little memory": lambda given: PeftModel.from_pretrained(base(), given, low_cpu_mem_usage=True),
    "AutoPeftModel": auto,
    "load_adapter of a network": into_base,
    "load_adapter of a PeftModel": second,
    "load_adapter, trained on": over_itself,
}


WHOLE = ("merge_adapter", "AutoModel")


@pytest.fixture(scope="module")
def saved(adapters_of_the_session, stock_sam, tmp_path_factory):
    """`saved(door)`: the directory that a door in `SAVE` wrote, once."""
    written = {}

    def write(door: str, given):
        if door not in written:
            written[door] = tmp_path_factory.mktemp("doors") / door.replace(" ", "-")
            SAVE[door](given, written[door])
        return written[door] / "x" if door == "another name" else written[door]

    return write


def grid(ones: list, others: list, quick) -> list:
    """All pairs; those that are not `quick(one, other)` are slow."""
    return [
        pytest.param(one, other, marks=() if quick(one, other) else pytest.mark.slow)
        for one in ones
        for other in others
    ]


@pytest.mark.parametrize(
    ("save", "load"),
    grid(SAVE, LOAD, lambda save, load: load == "load_adapter" or (save, load) == WHOLE),
)
@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_what_one_door_saves_another_loads_with_its_settings_or_refuses_by_name(adapter, saved, save, load):
    expected, given = adapter()
    directory = saved(save, given)
    is_whole, takes_whole = (
        save.startswith("merge"),
        load in list(LOAD)[:4],
    )
    if (is_whole and not takes_whole) or (not is_whole and load == "AutoModel"):
        with pytest.raises((OSError, ValueError)):
            LOAD[load](directory)
        return
    model = LOAD[load](directory)
    torch.testing.assert_close(logits_of(model), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert (model.adapter_settings.threshold, model.adapter_settings.view) == (0.3, "full")


def ours(given):
    return load_adapter(given, base=base(), adapter_name="first")


def plain(given):
    return PeftModel.from_pretrained(base(), given, adapter_name="first")


def transformers(given):
    network = base()
    network.load_adapter(given, "first")
    return network


@pytest.mark.parametrize(
    ("presets", "door"),
    grid(
        [SHARING, SHARING[::-1]],
        [ours, plain, transformers],
        lambda presets, door: presets is SHARING and door is not plain,
    ),
)
def test_adapters_of_all_presets_of_one_form_share_a_base(adapter, door, presets):
    expected = {preset: adapter(preset, image_size=32 if preset == "paper" else 64) for preset in presets}
    model = door(expected[presets[0]][1])
    names = ["first", *presets[1:]]
    for name in names[1:]:
        model.load_adapter(expected[name][1], name)
        if door is not transformers:  # which activates what it loads
            assert torch.equal(logits_of(model), expected[presets[0]][0])
    network = model if door is transformers else model.get_base_model()
    for name, preset in zip(names, presets, strict=True):
        model.set_adapter(name)
        assert torch.equal(logits_of(model), expected[preset][0]), preset
        assert model.adapter_settings.preset == preset and model.adapter_settings.form == network.config.form
    for name in names[:-1]:
        model.delete_adapter(name)
    last = presets[-1]
    if door is not plain:  # PEFT's own looks for the active adapter in its LoRA layers, which not all have
        assert torch.equal(logits_of(model), expected[last][0]) and model.adapter_settings.preset == last


def damaged(directory, edit):
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return directory


KEY = "base_model.model.detail_branch.decode1.conv_in.weight"
REFUSED = {
    "a tensor is missing": lambda adapter: damaged(adapter(seed=1)[1], lambda tensors: tensors.pop(KEY)),
    "a tensor is added": lambda adapter: damaged(
        adapter(seed=1)[1], lambda tensors: tensors.update({f"{KEY}.more": torch.zeros(3)})
    ),
    "a tensor has another shape": lambda adapter: damaged(
        adapter(seed=1)[1], lambda tensors: tensors.update({KEY: tensors[KEY][:4].clone()})
    ),
    "another spatial adapter": lambda adapter: adapter("seglab")[1],
    "other channels": lambda adapter: adapter("detail_only", detail_channels=4)[1],
    "no context": lambda adapter: adapter(seed=2, detail_context=False)[1],
    "is not there": lambda adapter: "nowhere",
}


def state_of(model) -> tuple:
    active = model.active_adapters() if callable(model.active_adapters) else model.active_adapters
    learnt = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return list(getattr(model, "peft_config", {})), active, learnt, [*model.state_dict()], model.training


@pytest.mark.parametrize(
    ("why", "door"),
    grid(REFUSED, [ours, plain, transformers, None], lambda why, door: door is ours or why == "a tensor is missing"),
)
def test_a_refused_adapter_leaves_the_model_as_it_was(adapter, door, why):
    refused = REFUSED[why](adapter)
    model = base().eval() if door is None else door(adapter("lora_only")[1])
    model.requires_grad_(True)
    before, expected = state_of(model), logits_of(model)
    with pytest.raises((AdapterMismatchError, OSError, ValueError, KeyError)):
        load_adapter(refused, base=model) if door is None else model.load_adapter(refused, "second")
    assert torch.equal(logits_of(model), expected)
    if door is not plain or why in {"a tensor is added", "a tensor has another shape"}:
        assert state_of(model)[:2] == before[:2]
    if door is not plain:
        assert state_of(model) == before


def test_of_adapters_only_one_is_merged_and_none_is_added_up(adapter):
    (first, directory), (second, other) = adapter("topolora"), adapter("lora_only", seed=1)
    model = load_adapter(directory, adapter_name="first")
    model.load_adapter(other, "second")
    for refused in (
        lambda: model.merge_and_unload(adapter_names=["first", "second"]),
        lambda: model.merge_and_unload(adapter_names=["third"]),
        lambda: model.add_weighted_adapter(["first"], [0.5], "half"),
        lambda: model.get_base_model().save_pretrained(directory),
    ):
        with pytest.raises(ValueError, match=r"one at a time|third|cannot be added up|PeftModel: save that"):
            refused()
        assert torch.equal(logits_of(model), first) and model.active_adapter == "first"
    of_base = logits_of(base())
    assert torch.equal(logits_of(copy.deepcopy(model).unload()), of_base)
    merged = model.merge_and_unload(adapter_names=["second"])
    torch.testing.assert_close(logits_of(merged), second, rtol=0, atol=1e-5 * second.abs().max().item())
    assert merged.adapter_settings.preset == "lora_only" and merged.config.detail_channels == 0
    assert merged.name_or_path == "" and merged.detail_branch is None


def test_loading_keywords_do_what_they_say_or_are_refused(adapter):
    _, directory = adapter()
    for keywords in (
        {"dtype": torch.bfloat16},
        {"torch_dtype": "bfloat16"},
        {"device_map": "cpu", "dtype": "bfloat16"},
    ):
        for model in (
            load_adapter(directory, **keywords),
            TopoSamForSegmentation.from_pretrained(directory, **keywords),
        ):
            floats = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}
            assert floats == {torch.bfloat16}, keywords
    for refused in (
        lambda: load_adapter(directory, imagesize=64),
        lambda: load_adapter(directory, base=base(), dtype=torch.bfloat16),
        lambda: load_adapter(directory).load_adapter(directory, "b", dtype=torch.bfloat16),
        lambda: base().load_adapter(directory, hotswap=True),
        lambda: AdapterSettings.from_pretrained(directory, dtype=torch.bfloat16),
    ):
        with pytest.raises(TypeError, match=r"imagesize|dtype|hotswap"):
            refused()
    for name, value in {"image_size": 32, "tile_size": 64, "use_sam": False, "detail_channels": 0}.items():
        with pytest.raises(AdapterMismatchError, match=f"was trained with {name}=.*, got {value}"):
            TopoSamForSegmentation.from_pretrained(directory, **{name: value})
