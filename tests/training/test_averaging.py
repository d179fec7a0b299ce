import pytest
import torch

from topolora_hf.training import averaging
from topolora_hf.training.averaging import WeightAverage


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.nn.Parameter(torch.randn(4, 3, generator=generator)),
        "turned": torch.randn(5, 2, generator=generator).T,
        "count": torch.tensor(7),
    }


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_the_recursion_with_its_warm_up(decay):
    live = weights()
    average = WeightAverage(live, decay)
    expected = {name: live[name].detach().double() for name in ("matrix", "turned")}
    for step in range(30):
        now = min(decay, (1 + step) / (10 + step))
        for name, before in expected.items():
            with torch.no_grad():
                live[name].add_(torch.randn(live[name].shape, generator=torch.Generator().manual_seed(step)))
            expected[name] = now * before + (1 - now) * live[name].detach().double()
        average.update(step)
    for name, tensor in expected.items():
        torch.testing.assert_close(average.tensors[name].double(), tensor, rtol=1e-5, atol=1e-6)


def test_integers_are_left_alone():
    live = weights()
    average = WeightAverage(live, 0.9)
    live["count"] += 1
    average.update(0)
    with average.applied():
        assert live["count"] == 8
    assert "count" not in average.tensors


@pytest.mark.parametrize("fails", [False, True])
def test_applied_averages_give_way_to_the_very_weights_again(fails):
    live = weights()
    average = WeightAverage(live, 0.9)
    with torch.no_grad():
        live["matrix"].mul_(1 / 3)
    average.update(0)
    kept = {name: tensor.detach().clone() for name, tensor in live.items()}
    averaged = {name: tensor.clone() for name, tensor in average.tensors.items()}
    try:
        with average.applied():
            assert torch.equal(live["matrix"], averaged["matrix"]) and not torch.equal(live["matrix"], kept["matrix"])
            if fails:
                raise RuntimeError("while scoring")
    except RuntimeError:
        assert fails
    for name, tensor in live.items():
        assert torch.equal(tensor, kept[name])
    for name, tensor in average.tensors.items():
        assert torch.equal(tensor, averaged[name])


def test_processes_score_with_the_averages_of_the_first(monkeypatch):
    live = weights()
    average = WeightAverage(live, 0.9)
    monkeypatch.setattr(averaging, "broadcast", lambda tensors: [tensor.fill_(3) for tensor in tensors])
    with average.applied():
        assert (live["matrix"] == 3).all() and (live["turned"] == 3).all()
    assert not (live["matrix"] == 3).any()


def test_a_network_notices_that_its_weights_were_exchanged():
    """What is derived from a parameter and kept goes by its count of writes."""
    live = weights()
    before = live["matrix"]._version
    with WeightAverage(live, 0.9).applied():
        assert live["matrix"]._version > before
