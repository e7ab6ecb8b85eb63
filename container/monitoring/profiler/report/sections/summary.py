"""The training job at a glance: when it ran and what its time went into."""

from collections.abc import Iterator

from container.monitoring.profiler.report.colours import phase
from container.monitoring.profiler.report.markup import Html, Share, bar, facts, missing, table
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.units import count, moment, percent, seconds

PARTS = {
    "initialisation": "until the first step: reading data, building the network, compiling",
    "training loop": "training steps, validation and checkpoints",
    "finalisation": "after the last step: the artifact, its export and its evaluation",
}


def summary(material: Material) -> Iterator[Html]:
    """Start, end, duration, and the three parts of the job."""
    job = material.figures.job
    material.data["job"] = job
    if job["started"] is None:
        yield missing(
            "No times:", "neither the job’s facts nor a measurement says when anything happened."
        )
    pairs = [
        ("Start (UTC)", moment(job["started"]).removesuffix(" UTC")),
        ("End (UTC)", moment(job["ended"]).removesuffix(" UTC")),
        ("Duration", seconds(job["duration"])),
        ("Device", job["device"] or "–"),
        ("Hosts", ", ".join(job["hosts"]) or "–"),
        ("Processes", count(job["world"])),
        ("Cores a host", count(job["cores"])),
        ("Loader workers", count(job["workers"])),
        ("Batch size", count(job["batch_size"])),
        ("Image size", count(job["image_size"])),
        ("Training images", count(job["train_images"])),
    ]
    yield facts(pairs)
    parts = [(name, job[name.replace(" ", "_")]) for name in PARTS]
    if not any(part for _, part in parts):
        yield missing(
            "No parts:",
            "without a training step, initialisation, loop and finalisation cannot be told apart.",
        )
        return
    yield bar(
        [
            Share(name, part["share"] or 0.0, phase(name), seconds(part["seconds"]))
            for name, part in parts
            if part
        ],
        "the job",
    )
    yield table(
        ["part", "what it is", "time", "share"],
        [
            [
                name,
                PARTS[name],
                seconds(part["seconds"] if part else None),
                percent(part["share"] if part else None),
            ]
            for name, part in parts
        ],
        words=2,
    )
