import logging
import shutil

import pytest
import torch

from topolora_hf.objective import compilation
from topolora_hf.objective.compilation import compiled_when_worthwhile, set_skeleton_compilation
from topolora_hf.objective.soft_skeleton import soft_skeleton_with_core


@pytest.fixture(autouse=True)
def a_fresh_choice(monkeypatch):
    monkeypatch.setattr(compilation._Choice, "mode", "auto")
    monkeypatch.setattr(compilation._Choice, "eager_seconds", 0.0)
    monkeypatch.setattr(compilation._Choice, "broken", False)


@pytest.fixture
def doubled(monkeypatch):
    """A function that says which form of it ran."""
    monkeypatch.setattr(torch, "compile", lambda function, **settings: lambda values: ("compiled", function(values)[1]))
    return compiled_when_worthwhile(lambda values: ("eager", 2 * values))


def test_short_work_stays_eager_and_long_work_is_compiled(doubled, monkeypatch):
    values = torch.ones(3)
    assert doubled(values)[0] == "eager"
    assert 0 < compilation._Choice.eager_seconds < 5
    monkeypatch.setattr(compilation._Choice, "eager_seconds", 3600.0)
    assert doubled(values)[0] == "compiled"
    assert doubled(values.bfloat16())[0] == "eager"


def test_the_setting_overrules(doubled, monkeypatch):
    set_skeleton_compilation("always")
    assert doubled(torch.ones(3))[0] == "compiled"
    set_skeleton_compilation("never")
    monkeypatch.setattr(compilation._Choice, "eager_seconds", 3600.0)
    assert doubled(torch.ones(3))[0] == "eager"
    with pytest.raises(ValueError, match="one of auto, always, never; got 'sometimes'"):
        set_skeleton_compilation("sometimes")


def test_a_broken_compiler_means_eager_mode_and_is_told_once(monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **settings: broken)
    doubled = compiled_when_worthwhile(lambda values: 2 * values)
    set_skeleton_compilation("always")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(doubled(torch.ones(3)), torch.full((3,), 2.0))
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "the soft skeleton cannot be compiled and stays in eager mode: no C++ compiler"
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_and_eager_mode_agree_bit_for_bit():
    def both(images):
        images = images.clone().requires_grad_()
        skeleton = soft_skeleton_with_core(images, 4)
        (skeleton * torch.linspace(-1, 1, images.numel()).view(images.shape)).sum().backward()
        return skeleton.detach(), images.grad

    shapes = [(2, 1, 40, 33), (1, 3, 17, 64)]
    maps = [torch.rand(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    eager = [both(images) for images in maps]
    set_skeleton_compilation("always")
    compiled = [both(images) for images in maps]
    assert not compilation._Choice.broken
    for ours, expected in zip(compiled, eager, strict=True):
        assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])
