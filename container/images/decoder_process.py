"""Decodes one JPEG in a subprocess, to contain crashes of the decoder.

    python -m container.images.decoder_process MEMORY SECONDS < image

Prints `ok MODE WIDTH HEIGHT` and the raw pixels, or `error` and the reason, in one line. Imports
nothing of the package, so that it starts in a tenth of a second.
"""

import io
import resource
import sys
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile


def main() -> None:
    """Read an image from standard input and write its pixels to standard output."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    data = sys.stdin.buffer.read()
    _limit_memory(memory)
    try:
        image = JpegImageFile(io.BytesIO(data))
        image.load()
        pixels = image.tobytes()
    # The library raises various exceptions; the parent process reports them.
    except Exception as error:
        response = f"error {type(error).__name__}: {' '.join(str(error).split())}\n".encode()
        sys.stdout.buffer.write(response)
        return
    sys.stdout.buffer.write(f"ok {image.mode} {image.width} {image.height}\n".encode())
    sys.stdout.buffer.write(pixels)


def _limit_memory(size: int) -> None:
    """Allow `size` bytes more than now, if the system reports the current size."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # macOS, whose RLIMIT_AS limits nothing
        return
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
