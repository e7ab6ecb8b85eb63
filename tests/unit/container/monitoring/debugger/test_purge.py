import json
from pathlib import Path

from container.monitoring.debugger.purge import purge_steps


def save(folder: Path, step: int, mode: str, mode_step: int, worker: str = "worker_0") -> None:
    index = folder / "index" / f"{step // 1000:09}" / f"{step:012}_{worker}.json"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(json.dumps({"meta": {"mode": mode, "mode_step": mode_step}}))
    events = folder / "events" / f"{step:012}" / f"{step:012}_{worker}.tfevents"
    events.parent.mkdir(parents=True, exist_ok=True)
    events.touch()


def steps(folder: Path, worker: str = "worker_0") -> list[int]:
    found = {int(p.name[:12]) for p in folder.glob(f"index/*/*_{worker}.json")}
    assert found == {int(p.name[:12]) for p in folder.glob(f"events/*/*_{worker}.tfevents")}
    return sorted(found)


def two_epochs(folder: Path, worker: str = "worker_0") -> None:
    """Save two epochs of four training and two validation steps each; the second is incomplete."""
    modes = ["TRAIN"] * 4 + ["EVAL"] * 2 + ["TRAIN"] * 3
    for step, mode in enumerate(modes):
        save(folder, step, mode, modes[:step].count(mode), worker)


def test_a_missing_folder(tmp_path: Path) -> None:
    assert purge_steps(tmp_path / "tensors", "worker_0", 0, None) == 0
    assert purge_steps(tmp_path / "tensors", "worker_0", 7, 3) == 3


def test_steps_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    two_epochs(tmp_path)
    assert purge_steps(tmp_path, "worker_0", 5, 2) == 2
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


def test_a_validation_after_the_checkpoint_is_removed_too(tmp_path: Path) -> None:
    two_epochs(tmp_path)
    assert purge_steps(tmp_path, "worker_0", 3, None) == 0
    assert steps(tmp_path) == [0, 1, 2]


def test_the_number_of_validation_steps_is_read_from_the_folder(tmp_path: Path) -> None:
    two_epochs(tmp_path)
    assert purge_steps(tmp_path, "worker_0", 6, None) == 2
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_without_a_checkpoint_all_steps_are_removed(tmp_path: Path) -> None:
    two_epochs(tmp_path)
    assert purge_steps(tmp_path, "worker_0", 0, None) == 0
    assert steps(tmp_path) == []


def test_the_end_marker_and_partial_files_are_removed(tmp_path: Path) -> None:
    two_epochs(tmp_path)
    left = [
        tmp_path / "training_job_end.ts",
        tmp_path / "claim.smd",
        tmp_path / "index" / "000000000" / "000000000009_worker_0.json.tmp",
        tmp_path / "events" / "000000000000" / "000000000000_worker_0.tfevents.tmp",
    ]
    for path in left:
        path.write_text("half")
    broken = tmp_path / "index" / "000000000" / "000000000001_worker_0.json"
    broken.write_text("{")
    purge_steps(tmp_path, "worker_0", 9, 2)
    assert not [path for path in left if path.exists()]
    assert steps(tmp_path) == [0, 2, 3, 4, 5, 6, 7, 8]


def test_steps_of_other_workers_are_kept(tmp_path: Path) -> None:
    two_epochs(tmp_path, "worker_1")
    two_epochs(tmp_path, "worker_11")
    half = tmp_path / "index" / "000000000" / "000000000009_worker_11.json.tmp"
    half.touch()
    purge_steps(tmp_path, "worker_1", 0, None)
    assert steps(tmp_path, "worker_1") == []
    assert len(steps(tmp_path, "worker_11")) == 9
    assert half.exists()


def test_files_of_workers_that_no_longer_exist_are_removed(tmp_path: Path) -> None:
    collections = tmp_path / "collections" / "000000000"
    collections.mkdir(parents=True)
    for worker in ("worker_0", "worker_1", "worker_2"):
        two_epochs(tmp_path, worker)
        (collections / f"{worker}_collections.json").touch()
    purge_steps(tmp_path, "worker_0", 9, 2, workers=2)
    assert len(steps(tmp_path)) == len(steps(tmp_path, "worker_1")) == 9
    assert steps(tmp_path, "worker_2") == []
    assert sorted(path.name for path in collections.iterdir()) == [
        "worker_0_collections.json",
        "worker_1_collections.json",
    ]


def test_summaries_of_those_steps_are_removed(tmp_path: Path) -> None:
    summaries = tmp_path / "tensorboard"
    for step, mode in ((3, "TRAIN"), (6, "EVAL"), (7, "TRAIN")):
        (summaries / mode).mkdir(parents=True, exist_ok=True)
        (summaries / mode / f"{step:012}_12_host.tfevents").touch()
    (summaries / "TRAIN" / "events.out.tfevents.1234").touch()
    purge_steps(tmp_path / "tensors", "worker_0", 4, 2, tensorboard=summaries)
    assert sorted(path.name for path in summaries.glob("*/*")) == [
        "000000000003_12_host.tfevents",
        "events.out.tfevents.1234",
    ]
