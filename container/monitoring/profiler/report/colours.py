"""One colour for one thing on the whole page: names of the style sheet's variables."""

PHASE = {
    "data": "--orange",
    "copy": "--yellow",
    "augment": "--teal",
    "forward": "--blue",
    "backward": "--purple",
    "optimizer": "--green",
    "metrics": "--brown",
    "debug": "--red",
    "profiler": "--pink",
    "checkpoint": "--pink",
    "evaluation": "--teal",
    "unaccounted": "--gray",
    "train": "--blue",
    "eval": "--teal",
    "other": "--gray",
    "initialisation": "--yellow",
    "training loop": "--blue",
    "finalisation": "--teal",
}
METRIC = {
    "CPU": "--blue",
    "GPU": "--green",
    "I/O wait": "--red",
    "memory": "--yellow",
    "GPU memory": "--purple",
}
SEQUENCE = ("--blue", "--orange", "--green", "--purple", "--red", "--teal", "--yellow", "--pink")
"""For things without a colour of their own: GPUs, ranks."""


def phase(name: str) -> str:
    """A phase's colour."""
    return PHASE.get(name, "--gray")


def nth(place: int) -> str:
    """The colour of the n-th of several."""
    return SEQUENCE[place % len(SEQUENCE)]
