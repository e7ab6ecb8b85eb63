from collections.abc import Iterator

import pytest
import torch

from container.fit.threads import counts, fastest_threads


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_all_half_and_one_of_the_cores_are_tried() -> None:
    assert counts(8) == (8, 4, 1)
    assert counts(2) == (2, 1)
    assert counts(1) == (1,)


@pytest.mark.parametrize(
    ("seconds", "best"), [({4: 1.0, 2: 2.0, 1: 3.0}, 4), ({4: 9.0, 2: 2.0, 1: 1.0}, 1)]
)
def test_the_fastest_number_of_threads_is_set(seconds: dict[int, float], best: int) -> None:
    found = fastest_threads(lambda: seconds[torch.get_num_threads()], (4, 2, 1))
    assert found == (best, seconds[best])
    assert torch.get_num_threads() == best


def test_fewer_threads_are_used_only_if_they_are_clearly_faster() -> None:
    seconds = {4: 1.0, 1: 0.95}
    assert fastest_threads(lambda: seconds[torch.get_num_threads()], (4, 1)) == (4, 1.0)
