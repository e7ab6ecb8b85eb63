import pytest

from local.emulator.executors.line_buffer import LONGEST, LineBuffer


def lines_of(*chunks: bytes) -> list[str]:
    found: list[str] = []
    lines = LineBuffer(found.append)
    for chunk in chunks:
        lines.feed(chunk)
    lines.close()
    return found


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"one\ntw", b"o"], ["one", "two"]),
        ([b"one\n\ntwo\n"], ["one", "", "two"]),
        ([b"one\r\ntwo\r", b"\nthree"], ["one", "two", "three"]),
        ([b"10%\r50%", b"\r100%\n"], ["10%", "50%", "100%"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"a\xffb\n\xc3"], ["a\ufffdb", "\ufffd"]),
        ([b"\x00\n"], ["\x00"]),
        ([], []),
        ([b""], []),
    ],
)
def test_bytes_are_split_into_lines(chunks: list[bytes], expected: list[str]) -> None:
    assert lines_of(*chunks) == expected


def test_single_bytes_give_the_same_lines() -> None:
    data = "é\r\nover\rwritten\n\nlast".encode()
    assert lines_of(*(bytes([byte]) for byte in data)) == lines_of(data)


def test_a_line_too_long_for_an_event_is_split_without_loss() -> None:
    text = "é" * (2 * LONGEST + 5)
    parts = lines_of(text.encode()[: LONGEST + 1], text.encode()[LONGEST + 1 :], b"\nnext\n")
    assert [len(part) for part in parts] == [LONGEST, LONGEST, 5, 4]
    assert "".join(parts[:-1]) == text
    assert all(len(part.encode()) + 26 <= 262_144 for part in parts)


def test_a_line_that_cannot_be_stored_does_not_stop_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[str] = []

    def keep(line: str) -> None:
        if line == "bad":
            raise OSError(28, "No space left on device")
        kept.append(line)

    lines = LineBuffer(keep)
    lines.feed(b"one\nbad\nbad\ntwo\n")
    lines.close()
    assert kept == ["one", "two"]
    assert len(caplog.records) == 1
