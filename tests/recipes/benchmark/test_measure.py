import os
import signal
import time
from functools import partial

import torch

from benchmark.measure import (
    Measurement,
    Workload,
    count_flops,
    machine_rates,
    measure_in_fresh_process,
)

MEGABYTE = 2**20
# What threads, allocators and libraries take differs from process to process by up to some 60 MB.
TOLERANCE = 128 * MEGABYTE


def allocating(megabytes: int) -> Workload:
    return Workload(lambda: torch.ones(megabytes * MEGABYTE, dtype=torch.uint8).any())


def holding() -> Workload:
    kept = torch.ones(528 * MEGABYTE, dtype=torch.uint8)
    return Workload(lambda: kept[:10].any())


def sleeping_for_four_items() -> Workload:
    return Workload(lambda seconds: time.sleep(seconds), draw=lambda: (0.04,), items=4, flops=400)


def failing() -> Workload:
    raise ValueError("no such thing\nsecond line")


def killed() -> Workload:
    os.kill(os.getpid(), signal.SIGKILL)


def measure(build, repeats: int = 1) -> Measurement:
    return measure_in_fresh_process(build, repeats, "cpu", threads=1)


def test_extra_memory_is_what_a_repeat_adds_and_peak_all_that_the_rows_own_process_has():
    small, large, held = (measure(build) for build in (partial(allocating, 16), partial(allocating, 528), holding))
    after = measure(partial(allocating, 16))
    assert abs(large.extra_bytes - 528 * MEGABYTE) < TOLERANCE
    assert abs(large.peak_bytes - small.peak_bytes - 512 * MEGABYTE) < TOLERANCE
    assert held.extra_bytes < TOLERANCE
    assert abs(held.peak_bytes - small.peak_bytes - 512 * MEGABYTE) < TOLERANCE
    assert abs(after.peak_bytes - small.peak_bytes) < TOLERANCE


def test_times_are_per_item_and_fresh_input_is_drawn_for_each():
    measured = measure(sleeping_for_four_items, repeats=3)
    assert len(measured.seconds) >= 3 and measured.flops == 100
    assert 0.01 <= measured.median < 0.02


def test_a_row_that_fails_says_why():
    assert measure(failing).error == "ValueError: no such thing"
    assert "ended abruptly" in measure(killed).error


def test_two_rounds_join_into_one_measurement():
    one, other = Measurement([1.0], 10, 5), Measurement([2.0, 3.0], 8, 6)
    assert one.join(other) == Measurement([1.0, 2.0, 3.0], 10, 6)
    failed = Measurement(error="killed")
    assert one.join(failed) == failed.join(one) == failed


def test_flops_of_a_linear_layer_are_counted_forward_and_backward_on_meta_tensors():
    with torch.device("meta"):
        linear, features = torch.nn.Linear(8, 16), torch.empty(4, 8, requires_grad=True)
        product = 2 * 4 * 8 * 16
        assert count_flops(lambda: linear(features)) == product
        assert count_flops(lambda: linear(features).sum().backward()) == 3 * product
        linear.requires_grad_(False)
        assert count_flops(lambda: linear(features).sum().backward()) == 2 * product


def test_only_the_precisions_asked_for_are_rated():
    """A CPU without bfloat16 takes minutes to multiply in it."""
    rates = machine_rates("cpu", 1, ["float32"])
    assert rates.keys() == {"float32", "copy"} and min(rates.values()) > 1e8
