"""Decoding in a subprocess, for files whose decoder may crash.

It is spawned, not forked: a fork would inherit locks held by a server's or trainer's threads.
"""

import os
import signal
import subprocess
import sys

from PIL import Image

SECONDS = 20
"""CPU seconds for one image."""

_OVERHEAD = 64 << 20
_MODES = {"L": 1, "RGB": 3, "CMYK": 4}


class DecoderDied(ValueError):
    """The subprocess ended by a signal, a timeout or an exit status, which the message names."""


def decode_isolated(data: bytes, size: tuple[int, int]) -> Image.Image:
    """Decode a JPEG of (width, height) whole: an image of mode L, RGB or CMYK, as stored.

    Raises DecoderDied when the decoder crashes or takes too long, ValueError with the decoder's
    own message when it refuses the file.
    """
    width, height = size
    memory = _OVERHEAD + len(data) + 24 * width * height + 64 * height
    command = [sys.executable, "-m", "container.images.decoder_process", str(memory), str(SECONDS)]
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=3 * SECONDS,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise DecoderDied(f"its decoder took more than {3 * SECONDS} s") from None
    if done.returncode:
        how = f"exit status {done.returncode}"
        if done.returncode < 0:
            how = signal.Signals(-done.returncode).name
        raise DecoderDied(f"its decoder crashed ({how})")
    line, _, pixels = done.stdout.partition(b"\n")
    word, _, rest = line.decode(errors="replace").partition(" ")
    if word != "ok":
        raise ValueError(rest or "its decoder gave no answer")
    mode, *sides = rest.split()
    if sides != [str(width), str(height)] or len(pixels) != width * height * _MODES.get(mode, 0):
        raise ValueError(f"its decoder found {rest}, where the header says {width} x {height}")
    return Image.frombytes(mode, size, pixels)
