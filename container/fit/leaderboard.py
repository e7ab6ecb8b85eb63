"""The leaderboard of a fit job's classifiers."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from container.fit.linear.validation import HeldOut


@dataclass(frozen=True)
class LeaderboardEntry:
    """A classifier that was tried.

    Attributes:
        arch, image_size: its backbone and the side of its input.
        kind: whether only the head or the whole network was trained.
        how: the images that `compared` was measured on.
        compared: the accuracy by which probes are compared.
        validation: the accuracy on the validation images, by which a classifier is chosen.
        seconds: the job's elapsed seconds when it was finished.
        detail: its hyperparameters in words.
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
        """The entry's fields, its name, accuracies and confidence interval."""
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
        """The entries, the most accurate first; ties are ordered by loss, then by time."""
        return sorted(self.entries, key=lambda e: (-e.compared.accuracy, e.compared.loss))

    @property
    def best_probe(self) -> LeaderboardEntry:
        """The best of the probes."""
        return next(entry for entry in self.ranked if entry.kind == "probe")

    @property
    def chosen(self) -> LeaderboardEntry:
        """The classifier to keep: the best probe, or a fine-tuned network that beats it.

        Fine-tuned networks are compared with it and each other on the validation images.
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
        """The chosen classifier's validation accuracy each time one was added, in minutes."""
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
