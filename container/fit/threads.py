"""Measures which number of CPU threads is fastest.

If other processes use the same cores, threads that synchronise after every layer can be many times
slower than a single one.
"""

from collections.abc import Callable, Sequence

import torch

CLEARLY = 0.9
"""Fewer threads are used only if they take less than this share of the time."""


def counts(most: int) -> tuple[int, ...]:
    """The numbers of threads to try: all, half, one."""
    return tuple(dict.fromkeys(max(1, each) for each in (most, most // 2, 1)))


def fastest_threads(measure: Callable[[], float], tried: Sequence[int]) -> tuple[int, float]:
    """Set PyTorch to the fastest number of threads.

    Args:
        measure: returns the seconds of one measurement.
        tried: numbers of threads, the most first.

    Returns:
        The number, and the seconds with it.
    """
    found: dict[int, float] = {}
    for number in tried:
        torch.set_num_threads(number)
        found[number] = measure()
    best = min(tried, key=lambda number: found[number])
    if found[best] > CLEARLY * found[tried[0]]:
        best = tried[0]
    torch.set_num_threads(best)
    return best, found[best]
