"""Adapters of any number of classes share a base of one map, by every door; what does not fit is named."""

import copy
import json
import shutil
from functools import partial

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.presets import preset_network_settings
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

from .doors import BASE, base, into_base, logits_of, over_itself

slow = partial(pytest.param, marks=pytest.mark.slow)
LABELS = ("artery", "vein", "nerve", "disc", "cup")
PREFIX = "base_model.model."


def assert_same(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.fixture(autouse=True)
def _by_its_public_name(stock_sam, monkeypatch):
    monkeypatch.chdir(stock_sam() + "/..")


@pytest.fixture(scope="module")
def made(stock_sam, tmp_path_factory, off_its_start):
    """`made(labels, preset)` -> logits and directory of an adapter of so many classes, off its start."""
    done = {}

    def make(labels: int = 3, preset: str = "topolora"):
        if (labels, preset) not in done:
            form = preset_network_settings(preset)
            network = TopoSamForSegmentation.from_pretrained(stock_sam(), tile_size=48, num_labels=labels, **form)
            model = off_its_start(create_adapter(network, preset), 0.05, labels)
            directory = tmp_path_factory.mktemp("adapter") / f"{preset}-{labels}"
            settings = {"labels": LABELS[:labels], "exclusive": labels == 3, "threshold": 0.3}
            save_adapter(model, AdapterSettings.of_network(network, preset=preset, **settings), directory)
            done[labels, preset] = logits_of(model), directory
        return done[labels, preset]

    return make


LOAD = {
    "load_adapter": load_adapter,
    "on a given base": lambda given: load_adapter(given, base=base()),
    "on a base of other classes": lambda given: load_adapter(given, base=base(num_labels=2)),
    "from_pretrained": TopoSamForSegmentation.from_pretrained,
    "PeftModel": lambda given: PeftModel.from_pretrained(base(), given),
    "PeftModel in little memory": lambda given: PeftModel.from_pretrained(base(), given, low_cpu_mem_usage=True),
    "AutoPeftModel": partial(AutoPeftModel.from_pretrained, import_allowlist=["topolora_hf"], tile_size=48),
    "a network's load_adapter": into_base,
    "over itself": over_itself,
}
SAVE = {
    "load_adapter": load_adapter,
    "PeftModel": lambda given: PeftModel.from_pretrained(base(), given),
    "transformers": TopoSamForSegmentation.from_pretrained,
    "a copy": lambda given: copy.deepcopy(load_adapter(given)),
}


@pytest.mark.parametrize("load", [*list(LOAD)[2:], *map(slow, list(LOAD)[:2])])
def test_an_adapter_of_three_classes_comes_by_every_door_with_its_names(made, load):
    expected, directory = made()
    model = LOAD[load](directory)
    assert_same(logits_of(model), expected)
    settings = model.adapter_settings
    assert (settings.labels, settings.exclusive, settings.thresholds) == (LABELS[:3], True, (0.3,) * 3)
    assert settings.form.num_labels == 3


@pytest.mark.parametrize("save", ["PeftModel", "transformers", slow("load_adapter"), slow("a copy")])
def test_what_every_door_saves_is_the_same_file(made, save, tmp_path):
    expected, directory = made()
    SAVE[save](directory).save_pretrained(tmp_path)
    before, after = (load_file(place / "adapter_model.safetensors") for place in (directory, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert AdapterSettings.from_pretrained(tmp_path).labels == LABELS[:3]


@pytest.mark.parametrize(
    "preset", ["topolora", slow("paper"), "detail_only", slow("seglab"), slow("lora_only"), slow("adapter_only")]
)
def test_every_preset_has_maps_of_its_own_and_merges_into_a_whole_network(made, preset, tmp_path):
    expected, directory = made(2, preset)
    assert (expected[:, 0] - expected[:, 1]).abs().max() > 1e-3
    model = load_adapter(directory)
    assert torch.equal(logits_of(model), expected)
    tensors = load_file(directory / "adapter_model.safetensors")
    trained = {name for name, parameter in model.named_parameters() if ".modules_to_save." in name}
    assert any("class_masks" in name for name in tensors) == (preset != "detail_only") and trained
    merged = merge_adapter(model)
    assert merged.config.num_labels == 2
    assert_same(logits_of(merged), expected)
    merged.save_pretrained(tmp_path)
    for load in (load_adapter, TopoSamForSegmentation.from_pretrained, AutoModel.from_pretrained):
        again = load(tmp_path)
        assert_same(logits_of(again), expected)
        assert again.adapter_settings.labels == LABELS[:2]
    with model.disable_adapter():
        assert logits_of(model).shape[1] == 1


@pytest.mark.parametrize("preset", ["detail_only", slow("topolora"), slow("paper")])
def test_one_class_is_merged_into_a_base_of_three(made, tmp_path, preset):
    expected, directory = made(1, preset)
    merged = merge_adapter(load_adapter(directory, base=base(num_labels=3)))
    assert_same(logits_of(merged), expected)
    merged.save_pretrained(tmp_path)
    assert_same(logits_of(load_adapter(tmp_path)), expected)


@pytest.mark.parametrize(("of_base", "order"), [(1, (3, 1, 5)), (2, (1, 5, 3)), slow(1, (1, 5, 3)), slow(2, (3, 1, 5))])
@pytest.mark.parametrize("door", ["transformers", slow("plain"), slow("ours")])
def test_adapters_of_one_three_and_five_classes_share_a_base(made, door, order, of_base):
    presets = dict(zip(order, ["topolora", "detail_only", "paper"], strict=True))
    expected = {labels: made(labels, preset) for labels, preset in presets.items()}
    network = base(num_labels=of_base)
    of_no_adapter = logits_of(network)
    first = expected[order[0]][1]
    if door == "transformers":
        model = network
        model.load_adapter(first, str(order[0]))
    else:
        cls = PeftModel.from_pretrained if door == "plain" else lambda net, given, name: load_adapter(given, net, name)
        model = cls(network, first, str(order[0]))
    for labels in order[1:]:
        model.load_adapter(expected[labels][1], str(labels))
    for labels in (*order, *order[::-1]):
        model.set_adapter(str(labels))
        assert_same(logits_of(model), expected[labels][0])
        assert network.config.num_labels == labels and network.adapter_settings.labels[0] == LABELS[0]
        assert network.adapter_settings.num_labels == labels
    if door != "transformers":
        with model.disable_adapter():
            assert torch.equal(logits_of(model), of_no_adapter) and network.config.num_labels == of_base
    model.set_adapter(str(order[0]))
    model.delete_adapter(str(order[1]))
    assert_same(logits_of(model), expected[order[0]][0])


def damage(directory, tmp_path, edit):
    copied = shutil.copytree(directory, tmp_path / "damaged")
    tensors = load_file(copied / "adapter_model.safetensors")
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, copied / "adapter_model.safetensors")
    return copied


def fewer(tensors, part: str) -> None:
    for name in list(tensors):
        if name.startswith(PREFIX + part):
            tensors[name] = tensors[name][:-1]


def without_class_masks(tensors) -> None:
    for name in list(tensors):
        if "class_masks" in name:
            del tensors[name]


WRONG = {
    "fewer hypernetworks": (
        lambda tensors: fewer(tensors, "class_masks"),
        r"class_masks.*has shape \(1, .* expects \(2,",
    ),
    "fewer corrections": (
        lambda tensors: fewer(tensors, "detail_branch.correction"),
        r"correction\S* has shape \(2,.* expects \(3,",
    ),
    "another number": (
        lambda tensors: tensors.update({f"{PREFIX}tile_scaling.settings": torch.tensor([64, 48, 16, 1, 4])}),
        "num_labels=4(, but topolora_config.json names| maps, the settings name) 3 classes",
    ),
    "no number": (
        lambda tensors: tensors.update({f"{PREFIX}tile_scaling.settings": torch.tensor([64, 48, 16, 1])}),
        "num_labels=1(, but topolora_config.json names| maps, the settings name) 3 classes",
    ),
    "no hypernetworks": (without_class_masks, r"missing .*class_masks"),
}


@pytest.mark.parametrize(
    ("why", "door"),
    [
        pytest.param(why, door, marks=() if door == "ours" or why == "no hypernetworks" else pytest.mark.slow)
        for why in WRONG
        for door in ("ours", "beside another", "plain", "transformers")
    ],
)
def test_a_file_whose_parts_disagree_about_the_classes_is_refused_and_changes_nothing(made, tmp_path, door, why):
    edit, message = WRONG[why]
    directory = damage(made()[1], tmp_path, edit)
    expected, other = made(2)
    network = base()
    if door == "transformers":
        network.load_adapter(other)
    model = network if door in ("transformers", "plain", "ours") else load_adapter(other, network)
    before = logits_of(model)
    errors = (AdapterMismatchError, KeyError) if door == "plain" else AdapterMismatchError
    with pytest.raises(errors, match=message if door != "plain" else None):
        if door == "plain":
            PeftModel.from_pretrained(network, directory)
        elif door == "ours":
            load_adapter(directory, network)
        else:
            model.load_adapter(directory, "second")
    if door != "plain":
        assert torch.equal(logits_of(model), before)


def test_an_adapter_that_leaves_out_the_masks_of_its_classes_is_refused(made, tmp_path):
    """Whole in itself: neither its tensors nor its configuration have them."""
    directory = damage(made()[1], tmp_path, without_class_masks)
    config = json.loads((directory / "adapter_config.json").read_text())
    config["modules_to_save"].remove("class_masks")
    (directory / "adapter_config.json").write_text(json.dumps(config))
    for load in (load_adapter, lambda given: PeftModel.from_pretrained(base(), given), into_base):
        with pytest.raises(AdapterMismatchError, match="num_labels=3, but brings no class_masks: missing"):
            load(directory)


def test_a_wrong_number_of_classes_is_named(made, tmp_path):
    _, directory = made()
    with pytest.raises(AdapterMismatchError, match="was trained with num_labels=3, got 2"):
        TopoSamForSegmentation.from_pretrained(directory, num_labels=2)
    assert logits_of(TopoSamForSegmentation.from_pretrained(directory, num_labels=3)).shape[1] == 3
    model = load_adapter(directory)
    with pytest.raises(AdapterMismatchError, match="num_labels=3 maps, the settings name 2 classes: artery, vein"):
        save_adapter(model, AdapterSettings.of_network(model.get_base_model(), labels=LABELS[:2]), tmp_path / "out")
    renamed = shutil.copytree(directory, tmp_path / "renamed")
    settings = json.loads((renamed / "topolora_config.json").read_text())
    (renamed / "topolora_config.json").write_text(json.dumps({**settings, "labels": ["artery"], "exclusive": False}))
    for load in (load_adapter, into_base):
        with pytest.raises(AdapterMismatchError, match="num_labels=3, but topolora_config.json names 1 classes"):
            load(renamed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("a", "a")}, "labels must be one to 1000 different names"),
        ({"labels": ("a", " ")}, "labels must be one to 1000 different names"),
        ({"labels": ("a",), "exclusive": True}, "exclusive is for several classes; labels are a"),
        (
            {"labels": ("a", "b"), "threshold": (0.5,)},
            r"threshold must be one number, or one for each of 2 .*got 1: \[0.5\]",
        ),
        ({"labels": ("a", "b"), "logit_bias": (0, 1, 2)}, "logit_bias must be one number, or one for each of 2"),
        ({"labels": ("a", "b"), "temperature": (1, 0)}, "temperature must be a positive number, or one for each class"),
        ({"threshold": 1.5}, "threshold must be a number from 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_the_classes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdapterSettings(base=BASE, **settings)


def test_each_class_is_calibrated_by_its_own_numbers():
    settings = AdapterSettings(base=BASE, labels=("a", "b"), temperature=(1.0, 2.0), logit_bias=(0.0, 3.0))
    given = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([given[0], (given[1].logit() / 2 + 3).sigmoid()])
    torch.testing.assert_close(torch.from_numpy(settings.calibration(given.numpy())), expected)
    exclusive = AdapterSettings(base=BASE, labels=("a", "b"), logit_bias=(0.0, 3.0), exclusive=True).calibration(given)
    assert exclusive.sum(0).max() <= 1 + 1e-6
    plain = AdapterSettings(base=BASE, labels=("a", "b"), exclusive=True)
    assert plain.calibration(given.numpy()) is not None and torch.equal(
        torch.from_numpy(plain.calibration(given.numpy())), given
    )
