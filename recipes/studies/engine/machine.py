"""The machine that runs are measured on, and how times and sizes are written; the benchmark uses it, too."""

import platform
import sys
from pathlib import Path

import torch


def describe_machine(threads: int | None = None, device: str | None = None) -> str:
    """Name the graphics card, or the processor and the number of threads (by default PyTorch's).

    >>> describe_machine(threads=2, device="cpu").endswith(", 2 threads")
    True
    """
    if (device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda":
        return torch.cuda.get_device_name()
    threads = threads or torch.get_num_threads()
    return f"{_processor_name()}, {threads} thread{'s' * (threads > 1)}"


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def largest_resident_bytes() -> int:
    """Return the largest resident memory that this process has had, without its children's."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def format_seconds(seconds: float) -> str:
    """Write a time with three digits, in s or ms.

    >>> format_seconds(31.17), format_seconds(0.0851)
    ('31.2 s', '85.1 ms')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def format_bytes(size: float) -> str:
    """Write a size in GB or MB, of a thousand each.

    >>> format_bytes(9.87e9), format_bytes(1.24e7)
    ('9.9 GB', '12 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
