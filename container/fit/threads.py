"""How many threads of the processor are fastest, by measurement.

Where other processes use the same cores, threads that wait for each other after every layer can be
many times slower than one.
"""

from collections.abc import Callable, Sequence

import torch

CLEARLY = 0.9
"""Share of the most threads' time below which fewer are taken."""


def counts(most: int) -> tuple[int, ...]:
    """The numbers of threads that are tried: all, half, one."""
    return tuple(dict.fromkeys(max(1, each) for each in (most, most // 2, 1)))


def fastest_threads(measure: Callable[[], float], tried: Sequence[int]) -> tuple[int, float]:
    """Set PyTorch's threads to the fastest number.

    Args:
        measure: takes a measurement, seconds.
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
