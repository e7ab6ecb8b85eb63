"""What the profiler's report of a one-hour job costs, as a process of its own.

    python tests/benchmarks/report.py [--rounds 3]

The job: two hosts, 7,200 samples each of 16 cores and a GPU at 500 ms, and 50,000 training steps of
eight events. The report must take at most 20 s and 1 GB, and its page at most 10 MB.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parents[1] / "unit" / "container" / "monitoring" / "profiler")
)

from folders import write_hour

SECONDS, MEGABYTES, PAGE = 20, 1000, 10


def measure(folder: Path, into: Path) -> tuple[float, Path]:
    """Seconds of a whole process that writes the report, and its page."""
    command = [
        sys.executable,
        "-m",
        "container.monitoring.profiler.report",
        str(folder),
        "--into",
        str(into),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, into / "profiler-report.html"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = write_hour(root / "job")
        read = sum(path.stat().st_size for path in job.rglob("*") if path.is_file()) / 1e6
        took = []
        for _ in range(options.rounds):
            seconds, page = measure(job, root / "report")
            took.append(seconds)
            print(f"{seconds:.1f} s", flush=True)
        size = page.stat().st_size / 1e6
    # Linux counts kilobytes; the largest of the children, all of which did the same.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"\n{options.rounds} rounds, {read:.0f} MB read")
    for name, found, limit, unit in (
        ("time, median", statistics.median(took), SECONDS, "s"),
        ("peak memory", memory, MEGABYTES, "MB"),
        ("page", size, PAGE, "MB"),
    ):
        mark = "" if found <= limit else "  TOO MUCH"
        print(f"  {name:13} {found:7.1f} {unit:3} of {limit}{mark}")


if __name__ == "__main__":
    main()
