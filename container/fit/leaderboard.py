"""The classifiers a fit job has tried, best first, and its accuracy minute by minute."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from container.fit.linear.validation import HeldOut


@dataclass(frozen=True)
class LeaderboardEntry:
    """A classifier that was tried.

    Attributes:
        arch, image_size: its backbone and the side of its input.
        kind: whether the head alone was trained, or the whole network.
        how: the images `compared` is of.
        compared: its accuracy, by which probes are compared.
        validation: its accuracy on the validation images, by which it is chosen.
        seconds: into the job when it was there.
        detail: what was chosen for it.
    """

    arch: str
    image_size: int
    kind: Literal["probe", "fine-tuned"]
    how: str
    compared: HeldOut
    validation: HeldOut
    seconds: float
    detail: str

    @property
    def name(self) -> str:
        """The classifier in a few words."""
        return f"{self.kind} {self.arch} at {self.image_size} px"

    def line(self) -> str:
        """The entry for the log."""
        low, high = self.compared.interval
        return (
            f"{self.name}: accuracy {self.compared.accuracy:.4f} "
            f"({low:.4f} to {high:.4f} on {self.how}); {self.detail}"
        )

    def to_json(self) -> dict[str, Any]:
        """The entry's fields, with the name and the interval."""
        low, high = self.compared.interval
        return asdict(self) | {
            "name": self.name,
            "accuracy": self.compared.accuracy,
            "interval": [low, high],
            "validation_accuracy": self.validation.accuracy,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "LeaderboardEntry":
        """The inverse of `to_json`."""
        names = ("arch", "image_size", "kind", "how", "seconds", "detail")
        return cls(
            **{name: stored[name] for name in names},
            compared=HeldOut(**stored["compared"]),
            validation=HeldOut(**stored["validation"]),
        )


@dataclass
class Leaderboard:
    """The entries in the order they came."""

    entries: list[LeaderboardEntry] = field(default_factory=list)

    def add(self, entry: LeaderboardEntry) -> None:
        """Add a classifier."""
        self.entries.append(entry)

    @property
    def ranked(self) -> list[LeaderboardEntry]:
        """The entries by accuracy; of equals the lower loss, then the earlier, first."""
        return sorted(self.entries, key=lambda e: (-e.compared.accuracy, e.compared.loss))

    @property
    def best_probe(self) -> LeaderboardEntry:
        """The best of the probes."""
        return next(entry for entry in self.ranked if entry.kind == "probe")

    @property
    def chosen(self) -> LeaderboardEntry:
        """The classifier to keep: a fine-tuned one only where the validation images prefer it.

        Fine-tuned networks are compared with the best probe and each other on the same images.
        """
        chosen = self.best_probe
        for entry in self.entries:
            if entry.kind == "fine-tuned" and entry.validation.better_than(chosen.validation):
                chosen = entry
        return chosen

    def lines(self) -> Iterator[str]:
        """The table for the log."""
        yield "leaderboard: 95 % intervals after Wilson"
        for place, entry in enumerate(self.ranked, 1):
            yield f"  {place}. {entry.line()}"

    def best_by_minute(self) -> list[dict[str, float]]:
        """The kept classifier's validation accuracy at each time it changed: minutes, accuracy."""
        points: list[dict[str, float]] = []
        so_far = Leaderboard()
        for entry in sorted(self.entries, key=lambda each: each.seconds):
            so_far.add(entry)
            if not any(each.kind == "probe" for each in so_far.entries):
                continue
            chosen = so_far.chosen
            low, high = chosen.validation.interval
            points.append(
                {
                    "minutes": entry.seconds / 60,
                    "accuracy": chosen.validation.accuracy,
                    "low": low,
                    "high": high,
                }
            )
        return points
