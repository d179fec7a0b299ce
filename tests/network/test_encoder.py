import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from topolora_hf.adapters.creation import create_adapter
from topolora_hf.network import feed_forward
from topolora_hf.network.feed_forward import add_feed_forward
from topolora_hf.network.segmenter import TopoSamForSegmentation


@pytest.fixture
def network(stock_sam):
    def make(**settings) -> TopoSamForSegmentation:
        directory = stock_sam()
        torch.manual_seed(0)
        return TopoSamForSegmentation.from_pretrained(directory, detail_channels=0, **settings)

    return make


def random_adapter(network: TopoSamForSegmentation, **config):
    """LoRA (as `create_adapter`'s unless said otherwise) with every trained weight off its start."""
    torch.manual_seed(0)
    if config:
        model = get_peft_model(network, LoraConfig(target_modules=r".*\.mlp\.lin[12]", **config))
    else:
        model = create_adapter(network, "paper")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def values_and_gradients(model: nn.Module, tiles: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(pixel_values=tiles).logits
    (logits * torch.linspace(-1, 1, logits.shape[-1])).mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **gradients}


def differences(expected: dict[str, torch.Tensor], computed: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative, by tensor; a gradient that is zero but for rounding (a key's bias) counts by the largest one."""
    assert expected.keys() == computed.keys()
    largest = max(value.norm() for name, value in expected.items() if name != "logits")
    return {
        name: float((computed[name] - value).norm() / max(value.norm(), 0.01 * largest))
        for name, value in expected.items()
    }


def assert_same(expected: dict[str, torch.Tensor], computed: dict[str, torch.Tensor]) -> None:
    far = {name: difference for name, difference in differences(expected, computed).items() if difference > 1e-5}
    assert not far


def tiles(size: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("image_size", "checkpointing"), [(64, False), (96, True)])
def test_the_fast_encoder_trains_as_transformers_own(network, image_size, checkpointing):
    sizes = {"image_size": image_size, "tile_size": image_size}
    stock, fast = (random_adapter(network(fast_encoder=fast, **sizes)).train() for fast in (False, True))
    if checkpointing:
        fast.get_base_model().gradient_checkpointing_enable()
    expected = values_and_gradients(stock, tiles(image_size))
    assert any("lora_A" in name for name in expected)
    assert_same(expected, values_and_gradients(fast, tiles(image_size)))


def test_asking_for_transformers_attention_turns_the_fast_encoder_off(network):
    assert network().config.fast_encoder
    assert not network(attn_implementation="sdpa").config.fast_encoder
    assert network(attn_implementation="sdpa", fast_encoder=True).config.fast_encoder


@pytest.mark.parametrize(
    "config",
    [
        {"lora_dropout": 0.5},
        {"use_dora": True},
        {"lora_bias": True},
        {"use_rslora": True},
        {"modules_to_save": ["layer_norm2"]},
    ],
    ids=lambda config: next(iter(config)),
)
def test_every_kind_of_lora_gives_what_its_modules_give(network, config):
    stock, fast = (random_adapter(network(fast_encoder=fast), **config).train() for fast in (False, True))
    results = []
    for model in (stock, fast):
        torch.manual_seed(0)  # of dropout
        results.append(values_and_gradients(model, tiles()))
    assert_same(*results)


@pytest.mark.parametrize("state", ["disabled", "merged", "two active", "no adapter"])
def test_the_adapters_state_is_respected(network, state):
    def logits(fast: bool) -> torch.Tensor:
        torch.manual_seed(0)
        base = network(fast_encoder=fast)
        if state == "no adapter":
            return base(tiles()).logits
        model = random_adapter(base, r=4, init_lora_weights=False).eval()
        with torch.no_grad():
            if state == "merged":
                return model.merge_and_unload()(tiles()).logits
            if state == "disabled":
                with model.disable_adapter():
                    return model(pixel_values=tiles()).logits
            model.add_adapter("other", LoraConfig(r=2, target_modules=r".*\.mlp\.lin[12]", init_lora_weights=False))
            model.base_model.set_adapter(["default", "other"])
            return model(pixel_values=tiles()).logits

    torch.testing.assert_close(logits(fast=True), logits(fast=False), atol=1e-4, rtol=1e-4)


def test_trained_base_weights_get_their_gradients(network):
    stock, fast = network(fast_encoder=False), network(fast_encoder=True)
    assert_same(values_and_gradients(stock, tiles()), values_and_gradients(fast, tiles()))


def test_trained_biases_get_their_gradients(network):
    stock, fast = (random_adapter(network(fast_encoder=fast), bias="lora_only") for fast in (False, True))
    assert_same(values_and_gradients(stock, tiles()), values_and_gradients(fast, tiles()))
    assert fast.get_base_model().sam.vision_encoder.layers[0].mlp.lin1.base_layer.bias.grad.abs().max() > 0


def test_the_feed_forward_keeps_only_its_input_and_what_goes_into_gelu(network, monkeypatch):
    monkeypatch.setattr(feed_forward, "_TOKENS_A_BLOCK", 5)  # blocks that do not divide the tokens
    model = random_adapter(network())
    layer = model.get_base_model().sam.vision_encoder.layers[0]
    tokens = torch.randn(2, 4, 4, 64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        out = add_feed_forward(layer, tokens)
    hidden = layer.mlp.lin1.out_features
    assert sum(kept) == tokens.numel() + 2 * 4 * 4 * hidden
    torch.testing.assert_close(out, tokens + layer.mlp(layer.layer_norm2(tokens)))


def test_without_gradients_nothing_is_kept(network):
    layer = random_adapter(network()).get_base_model().sam.vision_encoder.layers[0]
    with torch.no_grad():
        assert add_feed_forward(layer, torch.randn(1, 4, 4, 64)).grad_fn is None


def test_mixed_precision_is_as_close_to_float32_as_transformers_eager_attention(network):
    stock = random_adapter(network(attn_implementation="eager")).train()
    fast = random_adapter(network()).train()
    exact = values_and_gradients(stock, tiles())
    with torch.autocast("cpu", torch.bfloat16):
        stock, fast = (values_and_gradients(model, tiles()) for model in (stock, fast))

    errors, stock_errors = differences(exact, fast), differences(exact, stock)
    assert 0 < errors["logits"] < 1.5 * stock_errors["logits"]
    lora = [name for name in errors if "lora" in name]
    assert 0 < sum(errors[name] for name in lora) < 1.5 * sum(stock_errors[name] for name in lora)
