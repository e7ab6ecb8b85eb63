"""Decodes one JPEG in a process of its own, whose crash harms nobody.

    python -m container.images.decoder_process MEMORY SECONDS < picture

Prints `ok MODE WIDTH HEIGHT` and the raw pixels, or `error` and why, in one line. Knows nothing
of the rest of the package: it starts in a tenth of a second.
"""

import io
import resource
import sys
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile


def main() -> None:
    """Read a picture from standard input and write its pixels to standard output."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    data = sys.stdin.buffer.read()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        image = JpegImageFile(io.BytesIO(data))
        image.load()
        pixels = image.tobytes()
    # The library raises whatever the bytes make it trip over; the parent says it in its own words.
    except Exception as error:
        answer = f"error {type(error).__name__}: {' '.join(str(error).split())}\n".encode()
        sys.stdout.buffer.write(answer)
        return
    sys.stdout.buffer.write(f"ok {image.mode} {image.width} {image.height}\n".encode())
    sys.stdout.buffer.write(pixels)


if __name__ == "__main__":
    main()
