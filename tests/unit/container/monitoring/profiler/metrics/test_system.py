from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.monitoring.profiler.metrics.statistics import quartiles
from container.monitoring.profiler.metrics.system import LOOKS, Points, Samples, listed
from container.monitoring.profiler.reading import Recording
from tests.unit.container.monitoring.profiler.folders import START, Host, constant, write_aws

MINUTE = {"scan_interval_us": 60_000_000}


def rows(*samples: Any) -> Any:
    table = pd.DataFrame(samples, columns=["time", "name", "value"])
    return table.assign(name=table["name"].astype("category"))


def test_samples_some_milliseconds_apart_are_one_point() -> None:
    found = Points.of(
        rows((10.0, "cpu0", 1), (10.004, "cpu1", 2), (10.5, "cpu0", 3), (10.507, "cpu1", 4))
    )
    assert found.times.tolist() == [10.0, 10.5]
    assert found.values.tolist() == [[1, 2], [3, 4]]


def test_unmeasured_values_are_missing() -> None:
    found = Points.of(rows((10.0, "cpu10", 1), (10.0, "cpu2", 2), (10.5, "cpu2", 4)))
    assert found.names == ("cpu2", "cpu10")
    assert found.values[0].tolist() == [2, 1]
    assert np.isnan(found.values[1, 1])
    assert len(Points.of(None)) == 0


def test_metrics_of_one_node_at_common_points(tmp_path: Path) -> None:
    host = Host(cpu=constant(10, 50, 2), gpu=constant(10, 9))
    late = Host(gpu=constant(10, 9), start=START + 0.06)  # its thread wakes up 60 ms later
    folder = write_aws(tmp_path / "a", Host(cpu=host.cpu))
    write_aws(tmp_path / "b", late)
    view = Samples(Recording.read(folder.parent.parent))
    times, (cores, gpus) = view.together("algo-1", "CPUUtilization", "GPUUtilization")
    assert len(times) == 10
    assert not np.isnan(cores).any()
    assert not np.isnan(gpus).any()


@pytest.fixture
def view(tmp_path: Path) -> Any:
    return Samples(Recording.read(write_aws(tmp_path, Host(cpu=constant(10, 50)))))


def test_looks_are_one_scan_interval_apart_and_the_last_includes_all_points(view: Any) -> None:
    times = START + 0.5 * np.arange(300)
    assert view.looks(times, MINUTE).tolist() == [120, 240, 300]
    assert view.looks(times, {"scan_interval_us": 10**12}).tolist() == [300]
    assert view.looks(times[:0], MINUTE).tolist() == []


def test_scans_without_new_points_are_left_out(view: Any) -> None:
    times = np.concatenate([START + np.arange(5), START + 86_400 * 365 + np.arange(5)])
    assert view.looks(times, MINUTE).tolist() == [5, 10]


def test_the_number_of_looks_is_limited(view: Any) -> None:
    looks = view.looks(START + 0.5 * np.arange(5000), {"scan_interval_us": 1})
    assert len(looks) == LOOKS
    assert looks[-1] == 5000
    assert (np.diff(looks) > 0).all()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_quartiles_are_ordered_and_within_the_values(values: Any) -> None:
    found = quartiles(np.array(values))
    assert min(values) <= found["lower"] <= found["p50"] <= found["upper"] <= max(values)


def test_long_lists_are_truncated() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcde")) == "a, b, c and 2 more"
