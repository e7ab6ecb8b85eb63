"""What the recording lacks, as its readers said."""

from collections.abc import Iterator

from container.monitoring.profiler.report.markup import Html, note
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.page import listing


def gaps(material: Material) -> Iterator[Html]:
    """Everything that was missing, cut short or out of order."""
    problems = list(material.figures.recording.problems)
    material.data["problems"] = problems
    inferred = material.figures.recording.job.get("inferred")
    if not problems:
        yield note("Nothing was missing and every file could be read.")
    else:
        yield listing(list(problems))
    if inferred:
        yield note(
            "Taken from the measurements, as no facts of the job were written: ",
            ", ".join(map(str, inferred)),
            ".",
        )
