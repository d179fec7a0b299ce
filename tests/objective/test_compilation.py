import logging
import shutil

import pytest
import torch

from topolora_hf.objective import soft_skeleton
from topolora_hf.objective.soft_skeleton import compile_skeleton, compiled_if_wanted, soft_skeleton_with_core


@pytest.fixture(autouse=True)
def a_fresh_choice(monkeypatch):
    monkeypatch.setattr(soft_skeleton, "_is_compiled", False)


def test_float32_is_compiled_if_wanted_and_nothing_else_is(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **settings: lambda values: ("compiled", function(values)[1]))
    doubled = compiled_if_wanted(lambda values: ("eager", 2 * values))
    values = torch.ones(3)
    assert doubled(values)[0] == "eager"
    compile_skeleton()
    assert (doubled(values)[0], doubled(values.bfloat16())[0]) == ("compiled", "eager")
    compile_skeleton(False)
    assert doubled(values)[0] == "eager"


def test_a_broken_compiler_means_eager_mode_and_is_told_once(monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **settings: broken)
    doubled = compiled_if_wanted(lambda values: 2 * values)
    compile_skeleton()
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
    compile_skeleton()
    compiled = [both(images) for images in maps]
    assert soft_skeleton._is_compiled  # the compiler was not broken
    for ours, expected in zip(compiled, eager, strict=True):
        assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])
