import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.rules import evaluate
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import parse_rules
from tests.unit.container.monitoring.profiler.folders import (
    PHASES,
    START,
    Host,
    busy_host,
    constant,
    write_aws,
    write_berth,
    write_events,
    write_hour,
    write_operators,
    write_system,
)

SMALL = Host(
    cpu=constant(200, 50, 2), gpu=constant(200, 90), memory=constant(200, 30), steps=[0.5] * 100
)


def same(one: Any, other: Any) -> Any:
    """Return whether two recordings contain the same samples and events."""
    return one.system.astype(str).equals(other.system.astype(str)) and one.events.astype(
        str
    ).equals(other.events.astype(str))


def test_sagemakers_folder(tmp_path: Path) -> None:
    job = write_aws(tmp_path, SMALL, job="pytorch-2023")
    found = Recording.read(job)
    assert found.problems == ()
    assert len(found.system) == 200 * 4
    assert found.system["time"].is_monotonic_increasing
    assert set(found.system["dimension"]) == {"CPUUtilization", "GPUUtilization", ""}
    assert set(found.system["kind"]) == {"cpu", "gpu", "memory"}
    assert set(found.events["phase"]) == {"step", "data", "forward", "backward"}
    assert set(found.events["mode"]) == {"train"}
    steps = found.events[found.events["phase"] == "step"]
    assert steps["step"].tolist() == list(range(100))
    assert steps["start"].iloc[0] == pytest.approx(START + 1 + 0.1, abs=1e-5)
    assert steps["duration"].iloc[0] == pytest.approx(0.4)
    assert found.job["job"] == "pytorch-2023"
    assert found.job["hosts"] == ["algo-1"]
    assert found.job["cores"] == 2
    assert found.job["world"] == 1
    assert found.job["device"] == "GPU"
    assert found.job["started"] == START
    assert found.job["training_started"] == pytest.approx(START + 1.1, abs=1e-5)
    assert "job" in found.job["inferred"]
    assert found.curves.empty
    assert found.debug_rules == []


@pytest.mark.parametrize("part", ["profiler-output", ""])
def test_any_of_sagemakers_folders_is_the_same_recording(tmp_path: Path, part: str) -> None:
    job = write_aws(tmp_path, SMALL)
    assert same(Recording.read(job / part), Recording.read(tmp_path))
    assert Recording.read(job / part).job["job"] == job.name


def test_berths_own_folder(tmp_path: Path) -> None:
    write_operators(write_berth(tmp_path, SMALL) / "data" / "profiler")
    found = Recording.read(tmp_path)
    assert found.problems == ()
    assert set(found.events["phase"]) == {"step", *PHASES}
    assert found.job["job"] == "berth-demo"
    assert found.job["hyperparameters"]["batch_size"] == 64
    assert found.job["inferred"] == []
    assert list(found.curves.columns) == [
        "step", "epoch", "time", "loss", "learning_rate", "gradient_norm",
    ]  # fmt: skip
    assert len(found.curves) == 100
    assert found.epochs["validation:loss"].tolist() == [2.1, 1.05]
    assert found.debug_rules[0]["Rule"] == "LossNotDecreasing"
    assert found.operators["name"].tolist() == ["aten::conv2d", "aten::linear", "sgemm"]
    assert found.operators["device"].tolist() == ["cpu", "cpu", "cuda"]


@pytest.mark.parametrize("part", ["", "data", "data/profiler"])
def test_any_of_berths_folders_is_the_same_recording(tmp_path: Path, part: str) -> None:
    whole = Recording.read(write_berth(tmp_path, SMALL))
    found = Recording.read(tmp_path / part)
    assert same(found, whole)
    assert found.job == whole.job
    assert len(found.curves) == len(found.epochs) * 50 == 100
    assert found.debug_rules == whole.debug_rules


def test_a_folder_that_contains_the_profile_twice(tmp_path: Path) -> None:
    output = tmp_path / "output"
    write_berth(output, SMALL)
    shutil.copytree(output / "data" / "profiler", output / "profiler")
    found = Recording.read(tmp_path)
    assert found.problems == ()
    assert same(found, Recording.read(output / "data"))


def test_hosts_whose_files_are_in_separate_folders(tmp_path: Path) -> None:
    second = Host(name="algo-2", cpu=constant(200, 9, 2), steps=[0.5] * 100, pid=7)
    write_berth(tmp_path, SMALL)
    write_berth(tmp_path / "algo-2", second, job={"started": START - 100})
    found = Recording.read(tmp_path)
    assert set(found.system["node"]) == {"algo-1", "algo-2"}
    assert found.job["started"] == START
    assert found.job["hosts"] == ["algo-1"]  # as the first host's job.json says
    ranks = found.events.groupby("node", observed=True)["rank"].unique()
    assert ranks["algo-1"].tolist() == [0]
    assert ranks["algo-2"].tolist() == [1]
    assert len(found.curves) == 100


def test_ten_hosts_are_sorted_numerically(tmp_path: Path) -> None:
    hosts = [Host(name=f"algo-{at}", cpu=constant(3, 9), steps=[0.1] * 3) for at in range(1, 12)]
    found = Recording.read(write_aws(tmp_path, *hosts))
    assert found.job["hosts"] == [host.name for host in hosts]
    last = found.events[found.events["node"] == "algo-11"]
    assert set(last["rank"]) == {10}


def test_profiles_of_several_jobs_in_one_folder(tmp_path: Path) -> None:
    write_aws(tmp_path, SMALL, job="one")
    write_aws(tmp_path, Host(cpu=constant(5, 50), start=START + 900), job="two")
    assert Recording.read(tmp_path).problems[0] == (
        "2 profiles lie in this folder (one/profiler-output, two/profiler-output) "
        "and are read as one job's"
    )


def test_an_empty_folder(tmp_path: Path) -> None:
    found = Recording.read(tmp_path)
    assert found.system.empty
    assert found.events.empty
    assert found.operators.empty
    assert found.job == {"job": tmp_path.name, "inferred": ["job"]}
    assert found.problems == (
        "no system metrics were found",
        "no framework events were found: nothing is known of the steps",
    )


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder with a job's output"):
        Recording.read(tmp_path / "nothing")


def test_links_outside_the_folder_are_not_followed(tmp_path: Path) -> None:
    elsewhere = write_aws(tmp_path / "elsewhere", SMALL)
    folder = tmp_path / "job"
    (folder / "system").mkdir(parents=True)
    secret = next(elsewhere.rglob("*.algo-1.json"))
    (folder / "system" / "1.algo-1.json").symlink_to(secret)
    (folder / "pevents").symlink_to(elsewhere / "profiler-output" / "framework" / "pevents")
    (folder / "job.json").symlink_to("/etc/hostname")
    found = Recording.read(folder)
    assert found.system.empty
    assert found.events.empty
    assert [line for line in found.problems if "a link out of the folder" in line] == [
        "job.json: a link out of the folder, not followed",
        "pevents: a link out of the folder, not followed",
        "system/1.algo-1.json: a link out of the folder, not followed",
    ]


def test_a_link_to_itself_and_a_name_with_special_characters(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "a\nb\udcff.json").write_text("x")
    problems = Recording.read(tmp_path).problems
    assert problems[0] == "loop: a link out of the folder, not followed"
    assert problems[1] == "system/a?b?.json: holds no system metrics"
    "".join(problems).encode()


def test_a_folder_given_as_a_link_is_read(tmp_path: Path) -> None:
    write_aws(tmp_path, SMALL, job="real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not Recording.read(tmp_path / "link").system.empty


def test_facts_of_the_wrong_type_are_replaced_by_recorded_ones(tmp_path: Path) -> None:
    write_berth(
        tmp_path, SMALL,
        job={"cores": "many", "workers": -1, "hosts": [], "started": True, "ended": 1e400},
    )  # fmt: skip
    found = Recording.read(tmp_path)
    assert found.job["cores"] == 2
    assert "workers" not in found.job
    assert found.job["hosts"] == ["algo-1"]
    assert found.job["started"] == START
    assert sum(line.startswith("job.json: ") for line in found.problems) == 5
    assert "job.json: cores: expected a number, found 'many'" in found.problems


def test_a_job_without_gpus(tmp_path: Path) -> None:
    host = Host(cpu=constant(9, 5), steps=[0.1])
    assert Recording.read(write_aws(tmp_path, host)).job["device"] == "cpu"


def test_samples_only(tmp_path: Path) -> None:
    found = Recording.read(write_aws(tmp_path, Host(cpu=constant(30, 50))))
    assert "training_started" not in found.job
    assert found.job["ended"] == START + 14.5
    assert found.problems == ("no framework events were found: nothing is known of the steps",)


def test_a_job_that_was_resumed_has_one_rank(tmp_path: Path) -> None:
    root = write_aws(tmp_path, SMALL) / "profiler-output"
    again = Host(cpu=constant(200, 50, 2), steps=[0.5] * 100, pid=99, start=START + 1000)
    write_events(root, again, aws=True)
    assert Recording.read(tmp_path).job["world"] == 1


def test_two_concurrent_processes_are_two_ranks(tmp_path: Path) -> None:
    root = write_aws(tmp_path, SMALL) / "profiler-output"
    write_events(root, Host(steps=[0.5] * 100, pid=8), aws=True)
    found = Recording.read(tmp_path)
    assert found.job["world"] == 2
    assert found.events.groupby("rank")["pid"].unique().map(list).tolist() == [[7], [8]]


def test_a_long_job_on_two_hosts(tmp_path: Path) -> None:
    found = Recording.read(write_hour(tmp_path, points=300, cores=4, steps=1000))
    assert found.problems == ()
    assert len(found.system) == 300 * 2 * 12
    assert len(found.events) == 1000 * 8
    assert all(
        str(found.system[column].dtype) == "category"
        for column in ("node", "kind", "name", "dimension")
    )


def test_times_keep_their_microseconds(tmp_path: Path) -> None:
    found = Recording.read(write_berth(tmp_path, Host(steps=[0.000123] * 3, before=0.5)))
    steps = found.events[found.events["phase"] == "step"]
    assert steps["duration"].to_numpy() == pytest.approx(np.full(3, 0.000123))
    assert np.diff(steps["start"]) == pytest.approx(np.full(2, 0.000123), abs=1e-6)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a folder with every kind of file."""
    folder = tmp_path_factory.mktemp("intact")
    host = busy_host(points=150, steps=60)
    write_operators(write_berth(folder, host) / "data" / "profiler")
    return folder


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_damaged_file_does_not_affect_the_others(
    intact: Any, tmp_path_factory: pytest.TempPathFactory, seed: Any
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "job"
    shutil.copytree(intact, folder)
    dice = random.Random(seed)  # noqa: S311 - for damage, not for secrets
    whole = Recording.read(intact)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in dice.sample(files, 4):
        damage(path, dice)
    found = Recording.read(folder)
    assert len(found.system) <= len(whole.system)
    assert len(found.events) <= len(whole.events)
    for outcome in evaluate(found, parse_rules(PROFILER_RULES, ["auto"])):
        assert outcome.error is None, outcome.error
        json.dumps([outcome.as_json(), outcome.status()], allow_nan=False)
    assert all("\n" not in line for line in found.problems)
    shutil.rmtree(folder)


def damage(path: Path, dice: random.Random) -> None:
    """Truncate a file, empty it, put noise into it or delete it."""
    text = path.read_bytes()
    at = dice.randrange(len(text))
    kind = dice.choice(["cut", "empty", "noise", "delete", "array", "deep"])
    if kind == "cut":
        path.write_bytes(text[:at])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(text[:at] + dice.randbytes(20) + text[at + 5 :])
    elif kind == "array":
        path.write_bytes(b'[1, null, "x", {}, [], {"ph": 3}, {"ph": "X"}]')
    elif kind == "deep":
        path.write_bytes(b"[" * 100_000)
    else:
        path.unlink()


def test_one_sample_a_second_and_one_a_minute_in_one_job(tmp_path: Path) -> None:
    root = write_aws(tmp_path, SMALL) / "profiler-output"
    write_system(root, Host(name="algo-2", cpu=constant(5, 50), interval=60))
    assert Recording.read(tmp_path).problems == ()
