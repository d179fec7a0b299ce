import torch

from topolora_hf.network.detail_branch import ChannelNorm


def test_a_norms_gradients_in_bfloat16_are_those_of_float32():
    """PyTorch's own are summed in bfloat16 on a CPU: over so many pixels they are off by 0.3 to 1 of their size."""
    generator = torch.Generator().manual_seed(0)
    features, upstream = (torch.randn(2, 16, 128, 128, generator=generator) for _ in range(2))
    norm, found = ChannelNorm(16), []
    for dtype in (torch.float32, torch.bfloat16):
        norm.zero_grad()
        norm(features.to(dtype)).backward((upstream + 0.3).to(dtype))
        found.append(torch.cat([norm.weight.grad, norm.bias.grad]))
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.02 * found[0].abs().max().item())


def test_a_norm_in_bfloat16_gives_the_same_with_gradients_as_without_but_for_rounding():
    norm, features = ChannelNorm(16), torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        expected = norm(features)
    torch.testing.assert_close(norm(features), expected, rtol=0.02, atol=0.02)
