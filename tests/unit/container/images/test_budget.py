import threading
from pathlib import Path

import pytest

from container.images.budget import BUDGET, LARGE, Budget
from container.images.decode import decode
from container.images.formats import sniff
from container.images.readers import plan
from tests.unit.container.conftest import encoded, picture


def test_a_request_waits_until_there_is_memory() -> None:
    budget = Budget(100)
    inside, leave, second = threading.Event(), threading.Event(), threading.Event()

    def first_one() -> None:
        with budget.hold(70):
            inside.set()
            leave.wait(60)

    def second_one() -> None:
        with budget.hold(70):
            assert leave.is_set()
            second.set()

    threads = [threading.Thread(target=first_one), threading.Thread(target=second_one)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    leave.set()
    assert second.wait(60)
    for thread in threads:
        thread.join(10)


def test_all_memory_is_released_after_an_error() -> None:
    budget = Budget(100)
    for _ in range(3):
        with pytest.raises(KeyError), budget.hold(100):
            raise KeyError
    with budget.hold(100):
        pass


def test_a_request_above_the_total_is_refused() -> None:
    with pytest.raises(ValueError, match="101 bytes are more than 100"), Budget(100).hold(101):
        pass


def test_large_pictures_take_turns_between_processes(tmp_path: Path) -> None:
    turn = tmp_path / "turn"
    turn.touch()
    ours, theirs = Budget(4 * LARGE), Budget(4 * LARGE)
    ours.use_lock_file(turn)
    theirs.use_lock_file(turn)
    inside, leave = threading.Event(), threading.Event()

    def theirs_inside() -> None:
        with theirs.hold(LARGE):
            inside.set()

    with ours.hold(LARGE):
        thread = threading.Thread(target=theirs_inside)
        thread.start()
        with theirs.hold(LARGE - 1):  # A small image does not wait for a turn.
            assert not inside.is_set()
        leave.set()
    assert inside.wait(60)
    thread.join(10)


def test_memory_of_large_images_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(BUDGET, "trim", lambda: trimmed.append(1))
    decode(encoded(picture(20, 20), "PNG"))
    assert trimmed == []
    decode(encoded(picture(2000, 2400), "PNG", compress_level=1))
    assert trimmed == [1]


@pytest.mark.parametrize(
    ("kind", "least"), [("PNG", 8), ("WEBP", 16), ("AVIF", 16), ("JPEG2000", 20), ("JPEG", 7)]
)
def test_every_format_counts_what_its_decoder_takes(kind: str, least: int) -> None:
    """`least` bytes per pixel were measured on pictures of ten megapixels."""
    data = encoded(picture(100, 100), kind)
    assert plan(data, sniff(data) or "", 10_000, None).cost >= least * 10_000


def test_a_progressive_jpeg_counts_all_its_coefficients() -> None:
    data = encoded(picture(800, 800), progressive=True, subsampling=0)
    assert plan(data, "JPEG", 640_000, (100, 100)).cost >= 6 * 640_000
    data = encoded(picture(800, 800))
    assert plan(data, "JPEG", 640_000, (100, 100)).cost < 640_000
