from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.reading import Recording
from tests.unit.container.monitoring.profiler.folders import busy_host, write_aws, write_berth
from tests.unit.container.monitoring.profiler.smdebug_readers import framework_events, system_events


@pytest.mark.parametrize("write", [write_aws, write_berth])
def test_smdebugs_readers_and_a_recording_read_the_same_values(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path, busy_host(points=60, steps=30))
    recording = Recording.read(folder)
    (system,) = folder.rglob("system")
    samples = system_events(system.parent)
    assert len(samples) == len(recording.system) == 60 * 12
    assert sorted(sample.value for sample in samples) == sorted(recording.system["value"])
    events = framework_events(system.parent)
    assert len(events) == len(recording.events) > 100
    starts = sorted(event.start_time for event in events)
    assert starts == pytest.approx((recording.events["start"] * 1e6).to_numpy(), abs=1)
