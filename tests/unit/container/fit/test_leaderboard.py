import json

from container.fit.leaderboard import Leaderboard, LeaderboardEntry
from container.fit.linear.validation import HeldOut


def probe(hits: int, seconds: float = 10, arch: str = "resnet18") -> LeaderboardEntry:
    held_out = HeldOut(hits, 100, 0.5)
    return LeaderboardEntry(
        arch, 224, "probe", "100 validation images", held_out, held_out, seconds, "L2 0.01"
    )


def tuned(hits: int, loss: float = 0.4, seconds: float = 60) -> LeaderboardEntry:
    held_out = HeldOut(hits, 100, loss)
    return LeaderboardEntry(
        "resnet18", 224, "fine-tuned", "100 validation images", held_out, held_out, seconds, ""
    )


def test_the_most_accurate_entry_is_first() -> None:
    board = Leaderboard([probe(80), probe(90, arch="resnet50"), tuned(85)])
    assert [entry.compared.hits for entry in board.ranked] == [90, 85, 80]
    lines = list(board.lines())
    assert "1. probe resnet50 at 224 px: accuracy 0.9000 (0.8256 to 0.9448" in lines[1]


def test_a_fine_tuned_network_is_kept_only_if_it_is_better() -> None:
    assert Leaderboard([probe(80), tuned(79)]).chosen.kind == "probe"
    assert Leaderboard([probe(80), tuned(80, loss=0.6)]).chosen.kind == "probe"
    assert Leaderboard([probe(80), tuned(80, loss=0.4)]).chosen.kind == "fine-tuned"
    best = Leaderboard([probe(80), tuned(85), tuned(88), tuned(86)]).chosen
    assert best.validation.hits == 88


def test_accuracy_by_minute_never_falls() -> None:
    board = Leaderboard(
        [probe(80, 12), probe(70, 18), tuned(85, seconds=60), tuned(84, seconds=90)]
    )
    points = board.best_by_minute()
    assert [point["accuracy"] for point in points] == [0.8, 0.8, 0.85, 0.85]
    assert [point["minutes"] for point in points] == [0.2, 0.3, 1.0, 1.5]


def test_entries_round_trip_through_json() -> None:
    entry = tuned(85)
    assert LeaderboardEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
