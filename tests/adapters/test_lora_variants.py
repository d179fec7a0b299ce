"""PEFT's variants of LoRA: trained, saved, loaded by every door, merged; where they are put, and who computes them."""

import copy

import pytest
import torch
from peft import AutoPeftModel, EvaConfig, LoraConfig, PeftModel, get_eva_state_dict, get_peft_model
from torch import nn

from topolora_hf.adapter_format.presets import LORA_VARIANTS
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.adapters.parameters import lora_in_words, parameter_table
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training.arguments import TrainArguments

VARIANTS = (*LORA_VARIANTS, "pissa_niter_4")
STARTED_IN_THE_BASE = ("pissa", "pissa_niter_4", "olora", "lora_ga")
RANK = 4
_DRAW = torch.Generator().manual_seed(0)
TILES = torch.randn(2, 3, 48, 48, generator=_DRAW) + torch.randn(2, 3, 1, 1, generator=_DRAW)
LABELS = (torch.rand(2, 1, 48, 48, generator=_DRAW) > 0.7).to(torch.uint8)


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model.eval()(TILES).logits


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def make(small_network):
    """`make(lora, **settings)`: an adapter of the paper's network, whose logits LoRA reaches, at its start."""

    def create(lora: str, **settings):
        torch.manual_seed(0)
        network = small_network(detail_channels=0)
        network.criterion = TopoLoss(iterations=2)
        batches = [{"pixel_values": TILES, "labels": LABELS}]
        return create_adapter(network, "paper", rank=RANK, lora=lora, batches=batches, **settings)

    return create


def lora_parameters(model) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}


def train(model, steps: int = 10, only_lora: bool = True) -> None:
    trained = lora_parameters(model).values() if only_lora else model.parameters()
    optimizer = torch.optim.AdamW([p for p in trained if p.requires_grad], 1e-2, weight_decay=0.0)
    for _ in range(steps):
        model.train()(pixel_values=TILES, labels=LABELS).loss.backward()
        optimizer.step()
        model.zero_grad()


@pytest.mark.parametrize("targets", ["ffn", pytest.param("attention", marks=pytest.mark.slow)])
@pytest.mark.parametrize("lora", VARIANTS)
def test_a_variant_trains_saves_comes_back_by_every_door_and_merges(
    make, lora, targets, small_network, tmp_path, monkeypatch, stock_sam
):
    monkeypatch.chdir(stock_sam() + "/..")
    base = small_network(detail_channels=0)
    of_base = logits_of(base)
    model = make(lora, lora_targets=targets)
    assert relative(logits_of(model), of_base) < 1e-5, "it starts from the base's own logits"
    train(model)
    expected = logits_of(model)
    assert relative(expected, of_base) > 1e-3, "LoRA alone has changed them"
    with model.disable_adapter():
        assert torch.equal(logits_of(model), of_base)
    save_adapter(model, AdapterSettings.of_network(model.get_base_model(), preset="paper"), tmp_path)
    form = {"tile_size": 48, "detail_channels": 0}
    assert relative(logits_of(merge_adapter(load_adapter(tmp_path))), expected) < 1e-4
    if targets == "ffn" and lora not in ("dora", "pissa"):
        return  # their files differ in numbers alone
    into_base = small_network(detail_channels=0)
    into_base.load_adapter(tmp_path)
    for loaded in (
        load_adapter(tmp_path),
        PeftModel.from_pretrained(base, tmp_path),
        AutoPeftModel.from_pretrained(tmp_path, import_allowlist=["topolora_hf"], **form),
        TopoSamForSegmentation.from_pretrained(tmp_path),
        into_base,
    ):
        assert relative(logits_of(loaded), expected) < 1e-6


@pytest.mark.parametrize("lora", STARTED_IN_THE_BASE)
def test_what_starts_in_the_bases_weights_trains_as_in_peft(make, small_network, lora):
    """PEFT takes the start out of the base's weights and trains the rest: the same steps, on a base that stays."""
    model = make(lora)
    layers = {name: module for name, module in model.get_base_model().named_modules() if hasattr(module, "lora_A")}
    plain = small_network(detail_channels=0)
    plain.criterion = TopoLoss(iterations=2)
    reference = get_peft_model(
        plain, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=r"sam\.vision_encoder\.layers\.\d+\.mlp\.lin[12]")
    )
    with torch.no_grad():
        for name, layer in layers.items():
            theirs = plain.get_submodule(name)
            a, b = layer.lora_A["default"].weight[:RANK], layer.lora_B["default"].weight[:, :RANK]
            theirs.lora_A["default"].weight.copy_(a)
            theirs.lora_B["default"].weight.copy_(b)
            theirs.base_layer.weight -= layer.scaling["default"] * b @ a
            assert layer.scaling == theirs.scaling
    before = {name: parameter.detach().clone() for name, parameter in lora_parameters(model).items()}
    train(model, steps=3)
    train(reference, steps=3)
    assert relative(logits_of(model), logits_of(reference)) < 1e-3
    for name, parameter in lora_parameters(model).items():
        held = parameter[RANK:] if "lora_A" in name else parameter[:, RANK:]
        assert torch.equal(held, before[name][RANK:] if "lora_A" in name else before[name][:, RANK:])
        assert not torch.equal(parameter, before[name])


def test_pissa_starts_from_the_largest_singular_values(make):
    model = make("pissa")
    layer = model.get_base_model().sam.vision_encoder.layers[0].mlp.lin1
    part = layer.scaling["default"] * layer.lora_B["default"].weight[:, :RANK] @ layer.lora_A["default"].weight[:RANK]
    values = torch.linalg.svdvals(layer.base_layer.weight)
    torch.testing.assert_close(torch.linalg.svdvals(part)[:RANK], values[:RANK], rtol=1e-4, atol=1e-5)


def test_eva_starts_from_directions_that_hold_as_much_of_the_inputs_as_those_that_peft_finds(make, small_network):
    model = make("eva").get_base_model()
    plain = small_network(detail_channels=0, fast_encoder=False).eval()
    inputs = {}

    def note(given, _, name):
        inputs[name] = given[0].flatten(0, -2)
        return inputs[name]

    targets = r"sam\.vision_encoder\.layers\.\d+\.mlp\.lin[12]"
    found = get_eva_state_dict(
        plain,
        [{"pixel_values": TILES}],
        LoraConfig(r=RANK, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0), target_modules=targets),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=note,
        show_progress_bar=False,
    )
    assert len(found) == 4
    for name, theirs in found.items():
        ours = model.get_submodule(name).lora_A["default"].weight
        rows = inputs[name] - inputs[name].mean(0)
        assert (rows @ ours.T).square().sum() > 0.99 * (rows @ theirs.to(rows.dtype).T).square().sum()
        torch.testing.assert_close(ours @ ours.T, torch.eye(RANK), rtol=0, atol=1e-4)


def test_mica_trains_a_alone_and_rslora_scales_by_the_root_of_the_rank(make):
    model = make("mica")
    before = {name: parameter.detach().clone() for name, parameter in lora_parameters(model).items()}
    train(model, steps=2)
    for name, parameter in lora_parameters(model).items():
        assert torch.equal(parameter, before[name]) == ("lora_B" in name)
    layer = make("rslora").get_base_model().sam.vision_encoder.layers[0].mlp.lin1
    assert layer.scaling["default"] == pytest.approx(2 * RANK / RANK**0.5)


def test_the_table_and_the_log_say_which_layer_computes_lora_and_what_is_held(make):
    def lora_rows(**settings):
        table = parameter_table(make(**settings))
        return {row["part"]: (row["trainable"], row["total"]) for row in table if row["part"].startswith("LoRA")}

    plain = lora_rows(lora="lora")["LoRA"][1]
    assert lora_rows(lora="lora") == {"LoRA": (plain, plain)} == lora_rows(lora="gaussian")
    assert lora_rows(lora="pissa") == {"LoRA": (plain, 2 * plain)}
    assert lora_rows(lora="mica")["LoRA"][0] < plain
    assert [*lora_rows(lora="dora")] == ["LoRA by PEFT"] == [*lora_rows(lora="lora", lora_targets="attention")]
    assert lora_rows(lora="lora", lora_targets="all").keys() == {"LoRA", "LoRA by PEFT"}
    words = "pissa in 4 layers, matrices of rank 8; computed in place"
    assert lora_in_words(make("pissa"), "pissa") == words
    assert lora_in_words(make("dora"), "dora").endswith("computed by PEFT's own layer")


# Where LoRA is put


def test_a_regular_expression_names_whole_layers_and_comes_back(make, stock_sam, tmp_path):
    model = make("lora", lora_targets=r"sam\.vision_encoder\.layers\.1\.mlp\..*")
    adapted = {name.split(".lora_A")[0] for name in lora_parameters(model) if "lora_A" in name}
    prefix = "base_model.model.sam.vision_encoder.layers.1.mlp."
    assert adapted == {f"{prefix}lin1", f"{prefix}lin2"}
    train(model)
    save_adapter(model, AdapterSettings.of_network(model.get_base_model(), preset="paper"), tmp_path)
    assert torch.equal(logits_of(load_adapter(tmp_path, base=stock_sam())), logits_of(model))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("mlp", "matches none of .*; give ffn, attention, all, .*layers.N.attn.proj.*layers.N.mlp.lin2"),
        (r".*\.patch_embed\.projection", "matches none"),
        (".*", r"trained whole: sam.mask_decoder.* and \d+ more; ffn"),
        (".*iou_prediction_head.*", "outside of the encoder: sam.mask_decoder.iou_prediction_head"),
        ("(", "is no regular expression: missing"),
    ],
)
def test_targets_that_are_not_there_or_trained_anyway_are_named(make, pattern, words):
    with pytest.raises(ValueError, match=f"lora_targets=.*{words}"):
        make("lora", lora_targets=pattern)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora": "qlora"}, "unknown lora 'qlora': one of lora, rslora, .*, pissa_niter_N"),
        ({"lora": "pissa_niter_"}, "unknown lora"),
        ({"lora": "eva", "batches": None}, "lora='eva' starts from training tiles: give batches"),
        ({"lora": "lora_ga", "batches": [{"pixel_values": TILES}]}, "give batches with labels"),
        ({"lora": "eva", "rank": 60}, "needs as many tokens in batches, sam.vision.* has 32"),
        ({"lora": "orthogonal", "rank": 3}, "rank to be even"),
        ({"lora": "pissa", "rank": 65}, "pissa' of rank 65: sam.vision_encoder.layers.0.mlp.lin1 has 64 at most"),
        ({"preset": "decoder_only", "lora": "dora"}, "preset 'decoder_only' has no LoRA"),
    ],
)
def test_what_cannot_start_is_named_and_leaves_the_base_as_it_was(small_network, settings, words):
    network = small_network(detail_channels=0)
    before = copy.deepcopy(network.state_dict())
    settings = {"preset": "paper", "batches": [{"pixel_values": TILES}], **settings}
    with pytest.raises(ValueError, match=words):
        create_adapter(network, **settings)
    assert network.state_dict().keys() == before.keys() and not hasattr(network, "peft_config")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.sam.modules())
    assert network.config.fast_encoder


def test_flags_of_lora_are_checked_before_anything_is_loaded():
    with pytest.raises(ValueError, match="unknown lora 'x'"):
        TrainArguments(dataset="drive", lora="x")
    with pytest.raises(ValueError, match="preset 'detail_only' has no LoRA: .*lora dora"):
        TrainArguments(dataset="drive", preset="detail_only", lora="dora")
