import math
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel

from benchmark import sharing, workloads
from benchmark.arguments import BenchmarkArguments
from benchmark.jobs import (
    Row,
    alternate,
    benchmark_groups,
    benchmark_rows,
)
from benchmark.networks import NetworkShape, trained_parameters
from benchmark.sharing import _check_parity, adapters_in_turn, tiles_through
from benchmark.workloads import (
    build_step,
    draw_target,
    encoder_layer,
    prediction,
    scores,
    step_flops,
    tiles,
    training_step,
)


def arguments(**settings) -> BenchmarkArguments:
    return BenchmarkArguments(**{"model": "small", "device": "cpu", "threads": 1, **settings})


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.dtype == "bfloat16"))
        for row in benchmark_rows(arguments())
        if row.group not in ("data", "adapters", "onnx")
    ],
)
def test_every_row_runs(row, monkeypatch):
    # These take longer than the rows themselves.
    monkeypatch.setattr(workloads, "count_flops", lambda run: 1)
    monkeypatch.setattr(workloads, "compile_skeleton", lambda wanted: None)
    work = row.build()
    for _ in range(2):
        work.run(*work.draw())
    is_family = row.group.startswith("small-")
    assert work.flops or work.least_bytes or row.group == "detail" or "less work" in row.help or is_family


def test_the_rows_of_data_run():
    for work in (tiles(64), scores(64)):
        work.run(*work.draw())


def test_the_row_of_switching_goes_to_and_fro(monkeypatch):
    active = []
    monkeypatch.setattr(PeftModel, "set_adapter", lambda model, name: active.append(name))
    work = adapters_in_turn(NetworkShape("small"))
    for _ in range(3):
        work.run()
    assert active == ["other", "default", "other"]


def test_both_runtimes_give_the_logits_of_the_same_tiles(stock_sam, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sharing, "TINY", stock_sam())
    torch_work, onnx_work = (tiles_through(runtime) for runtime in ("torch", "onnxruntime"))
    inputs = torch_work.draw()
    torch.testing.assert_close(torch_work.run(*inputs), onnx_work.run(*inputs), rtol=0, atol=1e-3)


def test_runtimes_that_differ_are_no_measurement():
    with pytest.raises(ArithmeticError, match="logits differ by"):
        _check_parity(lambda **tiles: _logits(1.0), lambda **tiles: _logits(1.1), torch.zeros(1))


def _logits(value: float) -> SimpleNamespace:
    return SimpleNamespace(logits=torch.tensor([value]))


def test_a_step_draws_fresh_input_each_time():
    work = training_step(NetworkShape("small"), "ours", "float32", 2, "cpu")
    (images, targets), (other_images, other_targets) = work.draw(), work.draw()
    assert images.shape == (2, 3, 64, 64) and targets.shape == (2, 1, 64, 64)
    assert not torch.equal(images, other_images) and not torch.equal(targets, other_targets)


@pytest.mark.parametrize("form", ["ours", "sdpa"])
def test_a_step_computes_every_gradient(form):
    network, loss = build_step(NetworkShape("small"), form)
    loss(torch.randn(1, 3, 64, 64), draw_target(1, 64, "cpu")).backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(network).values())


def test_a_steps_flops_grow_with_the_batch():
    small = NetworkShape("small")
    assert step_flops(small, 2) == pytest.approx(2 * step_flops(small, 1), rel=0.01)


def test_a_layers_flops_are_those_of_its_products():
    """Forward, and backward to the input alone: twice each linear layer, three times each product of two features."""
    side, channels = 64 // 16, 64
    tokens = side**2
    linear = 12 * tokens * channels**2
    attention = 2 * tokens**2 * channels
    positions = 2 * tokens * side * channels
    work = encoder_layer(NetworkShape("small"), "ours", False, "float32", 1, "cpu")
    assert work.flops == 2 * (2 * linear + 3 * attention + 2 * positions)


def test_the_tiles_of_a_prediction_are_counted_as_they_are_run():
    shape = NetworkShape("small")
    one, many = (prediction(shape, "ours", "float32", size, "cpu").flops for size in (64, 150))
    assert many == one * (math.ceil((150 - 64) / 32) + 1) ** 2


def test_targets_are_masks_and_never_empty():
    target = draw_target(8, 64, "cpu")
    assert target.unique().tolist() == [0, 1] and target.amax((-2, -1)).min() == 1


def test_every_row_has_a_name_of_its_own_and_a_group():
    rows = benchmark_rows(arguments())
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    groups = {group.name: group for group in benchmark_groups(arguments())}
    assert {row.group for row in rows} == set(groups)
    for row in rows:
        for reference in groups[row.group].references.values():
            assert reference.format(dtype=row.dtype) in names or row.dtype == "int8"


def test_rows_are_chosen_by_pattern_and_precision():
    chosen = benchmark_rows(arguments(rows=["step/ours*", "skeleton/*"], dtype=["float32"]))
    assert {row.group for row in chosen} == {"step", "skeleton"}
    assert all(row.dtype == "float32" for row in chosen)
    with pytest.raises(ValueError, match="no row is called 'stop/\\*'; there are step/authors/float32"):
        benchmark_rows(arguments(rows=["step/*", "stop/*"]))


@pytest.mark.parametrize(("form", "mode"), [("ours", "always"), ("ours-uncompiled", "never")])
def test_our_skeletons_are_measured_compiled_and_not(form, mode, monkeypatch):
    modes = []
    monkeypatch.setattr(workloads, "compile_skeleton", modes.append)
    (row,) = benchmark_rows(arguments(rows=[f"skeleton/{form}/*"]))
    row.build()
    assert modes == [mode == "always"]


def test_theirs_and_ours_are_measured_by_turns():
    rows = [Row(name, name[2] == "o", "", None) for name in ("a/t1", "a/t2", "a/t3", "a/o1", "a/o2", "b/t1", "b/o1")]
    assert [row.name for row in alternate(rows)] == ["a/t1", "a/o1", "a/t2", "a/o2", "a/t3", "b/t1", "b/o1"]


def test_quick_fills_in_only_what_was_not_given():
    quick = BenchmarkArguments(quick=True, layers=5, device="cpu")
    assert (quick.image_size, quick.layers, quick.repeats) == (512, 5, 2)
    assert (BenchmarkArguments(device="cpu").image_size, arguments(quick=True).image_size) == (1024, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit_x"}, "model must be vit_b or tiny or small, got 'vit_x'"),
        ({"dtype": ["float64"]}, "dtype must be float32 or bfloat16, got 'float64'"),
        ({"dtype": []}, "dtype must be one or more of float32, bfloat16"),
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
        ({"image_size": 100}, "image_size must be a multiple of 16, got 100"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(**settings)
