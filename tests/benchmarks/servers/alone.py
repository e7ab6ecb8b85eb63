"""Decoding and the forward pass alone, in one process, without a server: the ceiling.

    python tests/benchmarks/servers/alone.py MODEL PRECISION SECONDS

Prints a line of JSON: images a second with one image a pass and with the engine's largest batch;
the median milliseconds of one image; the milliseconds of processor time of each in a batch. The
decoder, the engine and the number of threads are the server's. While one batch is predicted, the
next is not decoded.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from container.artifact import Artifact
from serve.inference.engine import OpenVinoEngine
from servers.artifact import picture


def main() -> None:
    folder, precision, seconds = sys.argv[1:]
    artifact = Artifact.read(Path(folder))
    engine = OpenVinoEngine(artifact, len(os.sched_getaffinity(0)), precision=precision)
    body = picture()

    engine.predict(artifact.geometry.load(body, "photograph")[None])

    def passes(images: int) -> list[float]:
        taken: list[float] = []
        end = time.perf_counter() + float(seconds)
        while not taken or time.perf_counter() < end:
            started = time.perf_counter()
            pixels = [artifact.geometry.load(body, "photograph") for _ in range(images)]
            engine.predict(np.stack(pixels))
            taken.append(time.perf_counter() - started)
        return taken

    one, before = passes(1), time.process_time()
    many = passes(engine.max_batch)
    work = (time.process_time() - before) / (len(many) * engine.max_batch)
    print(json.dumps({
        "one": len(one) / sum(one),
        "many": len(many) * engine.max_batch / sum(many),
        "milliseconds": 1000 * statistics.median(one),
        "work": 1000 * work,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
