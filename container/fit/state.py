"""The state of a fit job, saved in checkpoints so that it can resume."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from container.fit.choices import Choice
from container.fit.leaderboard import Leaderboard, LeaderboardEntry
from container.fit.linear.probes import Probe
from container.training.checkpoint import CheckpointFolder


@dataclass(frozen=True)
class TrialResult:
    """A backbone at one size, tried on some of the images.

    Attributes:
        arch, image_size: the backbone and its input size.
        accuracy: the cross-validated accuracy of its probe.
        seconds: seconds for the features of one image.
    """

    arch: str
    image_size: int
    accuracy: float
    seconds: float


@dataclass
class FineTuningRound:
    """One round of fine-tuning.

    Attributes:
        entry: number of the probe it starts from.
        hyperparameters: its hyperparameters.
        seconds: its time limit.
        began: the job's elapsed seconds when it began.
        done: whether it has finished.
        history: metrics of its epochs.
        best_epoch: its best epoch, from 1.
    """

    entry: int
    hyperparameters: dict[str, Any]
    seconds: float
    began: float
    done: bool = False
    history: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0


@dataclass
class FitState:
    """The state of a fit job.

    Attributes:
        spent: seconds used of the job's time.
        trials: the backbones and sizes tried on some images.
        tried: whether the trials are complete.
        board: the classifiers.
        probes: the probes of the board's entries, by number.
        final: the best probe, fitted to the validation images too if there is a test split.
        rounds: rounds of fine-tuning.
        choices: decisions and their reasons.
        points: measured accuracies, with minutes and the classifier's name.
        learning: the learning curve, or why there is none, and the advice.
        fewer: numbers of training and validation images used; empty if all are.
        threads: the chosen number of CPU threads; 0 before.
        saves: number of times this was saved.
    """

    spent: float = 0.0
    trials: list[TrialResult] = field(default_factory=list)
    tried: bool = False
    board: Leaderboard = field(default_factory=Leaderboard)
    probes: dict[int, Probe] = field(default_factory=dict)
    final: Probe | None = None
    rounds: list[FineTuningRound] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    learning: dict[str, Any] = field(default_factory=dict)
    fewer: list[int] = field(default_factory=list)
    threads: int = 0
    saves: int = 0

    def save(self, folder: CheckpointFolder, spent: float) -> None:
        """Write a checkpoint. Raises TrainingError if the disk is full."""
        self.spent, self.saves = spent, self.saves + 1
        probes: dict[str, Probe] = {str(number): probe for number, probe in self.probes.items()}
        if self.final is not None:
            probes["final"] = self.final
        tensors: dict[str, Tensor] = {}
        for name, probe in probes.items():
            tensors |= {f"{name}/weight": probe.weight, f"{name}/bias": probe.bias}
        counters = {
            "spent": spent,
            "trials": [asdict(each) for each in self.trials],
            "tried": self.tried,
            "board": [each.to_json() for each in self.board.entries],
            "strengths": {name: probe.strength for name, probe in probes.items()},
            "rounds": [asdict(each) for each in self.rounds],
            "choices": [asdict(each) for each in self.choices],
            "points": self.points,
            "learning": self.learning,
            "fewer": self.fewer,
            "threads": self.threads,
            "saves": self.saves,
        }
        folder.save(self.saves, tensors, counters)

    @classmethod
    def load(cls, folder: CheckpointFolder) -> "FitState":
        """Load the newest checkpoint, or a new state. Raises CheckpointError for another job's."""
        checkpoint = folder.load_last()
        if checkpoint is None:
            return cls()
        stored: Mapping[str, Any] = checkpoint.counters
        probes = {
            name: Probe(
                checkpoint.tensors[f"{name}/weight"], checkpoint.tensors[f"{name}/bias"], strength
            )
            for name, strength in stored["strengths"].items()
        }
        final = probes.pop("final", None)
        return cls(
            spent=stored["spent"],
            trials=[TrialResult(**each) for each in stored["trials"]],
            tried=stored["tried"],
            board=Leaderboard([LeaderboardEntry.from_json(each) for each in stored["board"]]),
            probes={int(number): probe for number, probe in probes.items()},
            final=final,
            rounds=[FineTuningRound(**each) for each in stored["rounds"]],
            choices=[Choice(**each) for each in stored["choices"]],
            points=stored["points"],
            learning=stored["learning"],
            fewer=stored.get("fewer", []),
            threads=stored["threads"],
            saves=stored["saves"],
        )
