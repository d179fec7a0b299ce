"""Damage to files, in any order and number, that hypothesis can shrink; and a watch on time and memory."""

import faulthandler
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

_EDGES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00", b"\xff\xff", b"\x00\x00\x00\x00", b"\xff" * 4, b"\xff" * 8]
_EDGES += [b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00", b"\x00\x00\x00\x01"]
_PLACES = st.integers(0, 10_000)
DAMAGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _PLACES, st.integers(0, 7)),
        st.tuples(st.just("overwrite"), _PLACES, st.sampled_from(_EDGES) | st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), _PLACES, st.sampled_from(_EDGES) | st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("truncate"), _PLACES, st.none()),
        st.tuples(st.just("delete"), _PLACES, st.integers(1, 64)),
        st.tuples(st.just("double"), _PLACES, st.integers(1, 400)),
        st.tuples(st.just("splice"), _PLACES, st.tuples(st.integers(0, 10_000), st.integers(1, 400))),
    ),
    min_size=1,
    max_size=5,
)
SECONDS_AT_MOST = 20  # of the processor, far beyond what any input takes: what is longer hangs


def damaged(content: bytes, damages, other: bytes = b"") -> bytes:
    """Applies damages; a place of 0 to 10,000 is in the first bytes, where headers are, more often than not."""
    for kind, place, detail in damages:
        at = int(len(content) * (place / 10_001) ** 3)
        head, tail = content[:at], content[at:]
        if kind == "flip" and tail:
            content = head + bytes([tail[0] ^ (1 << detail)]) + tail[1:]
        elif kind == "overwrite":
            content = head + detail + tail[len(detail) :]
        elif kind == "insert":
            content = head + detail + tail
        elif kind == "truncate":
            content = content[: int(len(content) * place / 10_001)]
        elif kind == "delete":
            content = head + tail[detail:]
        elif kind == "double":
            content = head + tail[:detail] + tail
        elif kind == "splice":
            start = int(len(other) * detail[0] / 10_001)
            content = head + other[start : start + detail[1]] + tail
    return content


class Hang(BaseException):
    """No `except Exception` may take it for the file's fault."""


def _on_alarm(*_):
    raise Hang(f"one input took more than {SECONDS_AT_MOST} seconds")


def run(check, strategy, count: int, megabytes: int = 1500) -> int:
    """Calls `check` with `count` examples, a thousand at a time so that what hypothesis remembers stays small.

    Returns:
        By how many bytes the process's peak memory grew. It may not take more than `megabytes` beyond its start.
    """
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    alarm = signal.signal(signal.SIGPROF, _on_alarm)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, limits[1]))

    def watched(example):
        signal.setitimer(signal.ITIMER_PROF, SECONDS_AT_MOST)
        check(example)
        signal.setitimer(signal.ITIMER_PROF, 0)

    try:
        for first in range(0, count, 1000):
            examples = min(1000, count - first)
            # A hang inside a library's own code, or waiting, ends the process with a traceback.
            faulthandler.dump_traceback_later(1200, exit=True)
            options = settings(
                max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
            )
            seed(first)(options(given(strategy)(watched)))()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, alarm)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


class Fuzzer:
    """What a test needs of this file."""

    DAMAGES, damaged, run = DAMAGES, staticmethod(damaged), staticmethod(run)


@pytest.fixture(scope="session")
def fuzzer():
    """`fuzzer.DAMAGES`, `fuzzer.damaged(content, damages, other)`, `fuzzer.run(check, strategy, count)`."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    return Fuzzer
