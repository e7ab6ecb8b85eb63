import json
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.settings import ProfilerError, ProfilerSettings

DETAILED = "DetailedProfilingConfig"


class Reader:
    """Reads the settings of a folder, with the hyperparameters' defaults."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "input" / "config" / "profilerconfig.json"
        self.said: list[str] = []

    def config(self, **found: Any) -> "Reader":
        return self.text(json.dumps(found))

    def text(self, text: str) -> "Reader":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text)
        return self

    def read(self, profile: bool | None = None, steps: str = "10-12") -> ProfilerSettings | None:
        return ProfilerSettings.read(
            self.base, profile=profile, interval_ms=200, steps=steps, say=self.said.append
        )

    def found(self, **options: Any) -> ProfilerSettings:
        settings = self.read(**options)
        assert settings is not None
        return settings


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_without_the_file_the_hyperparameters_apply(reader: Reader) -> None:
    assert reader.found(profile=True) == ProfilerSettings(
        root=reader.base / "output" / "data" / "profiler",
        interval=0.2,
        steps=range(10, 13),
        rotate_bytes=10 * 2**20,
        rotate_seconds=60.0,
    )
    assert reader.read(None) is None
    assert reader.read(False) is None
    assert reader.said == []


@pytest.mark.parametrize(
    ("text", "steps"), [("none", range(0)), ("7", range(7, 8)), ("0-4", range(5)), ("", range(0))]
)
def test_steps(reader: Reader, text: str, steps: range) -> None:
    assert reader.found(profile=True, steps=text).steps == steps


def test_invalid_steps(reader: Reader) -> None:
    with pytest.raises(ProfilerError, match="profile_steps: expected steps such as 10-12"):
        reader.read(True, steps="ten")


def test_the_file_takes_precedence(reader: Reader) -> None:
    reader.config(
        S3OutputPath="s3://bucket/out",
        ProfilingIntervalInMilliseconds=1000,
        ProfilingParameters={
            "LocalPath": "/opt/ml/output/elsewhere/",
            "RotateMaxFileSizeInBytes": "2000",
            "RotateFileCloseIntervalInSeconds": "30",
            "FileOpenFailThreshold": "50",
            DETAILED: '{"StartStep": 5, "NumSteps": 2, }',
        },
    )
    assert reader.found() == ProfilerSettings(
        root=reader.base / "output" / "elsewhere",
        interval=1.0,
        steps=range(5, 7),
        rotate_bytes=2000,
        rotate_seconds=30.0,
    )
    assert reader.read(False) is None
    assert reader.said == []


def test_basic_profiling_is_written_to_sagemakers_folder(reader: Reader) -> None:
    reader.config(ProfilingIntervalInMilliseconds=5000, DisableProfiler=False)
    found = reader.found()
    assert found.root == reader.base / "output" / "profiler"
    assert (found.interval, found.steps) == (5.0, range(10, 13))


def test_a_path_outside_the_base_directory_is_unchanged(reader: Reader) -> None:
    reader.config(ProfilingParameters={"LocalPath": "/mnt/profile"})
    assert reader.found().root == Path("/mnt/profile")


@pytest.mark.parametrize("disabled", [True, "true", "True"])
def test_disabled(reader: Reader, disabled: object) -> None:
    reader.config(DisableProfiler=disabled, ProfilingIntervalInMilliseconds=500)
    assert reader.read(None) is None
    # SageMaker's own profiler is off; the user asks for this one.
    assert reader.found(profile=True).root == reader.base / "output" / "data" / "profiler"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"S3OutputPath": "s3://bucket/out"},
        {"S3OutputPath": "s3://bucket/out", "ProfilingParameters": {}},
        {"DisableProfiler": False},
        {"DisableProfiler": "false", "ProfilingIntervalInMilliseconds": None},
    ],
)
def test_a_file_without_parameters_means_sagemakers_default(
    reader: Reader, config: dict[str, Any]
) -> None:
    reader.config(**config)
    found = reader.found(profile=None)
    assert found.root == reader.base / "output" / "profiler"
    assert found.interval == 0.2  # the hyperparameter's default
    assert reader.read(False) is None


def test_keys_in_any_capitalisation(reader: Reader) -> None:
    reader.config(
        profilingintervalinmilliseconds=60000,
        profilingparameters={"detailedprofilingconfig": '{"startstep": 3}'},
    )
    found = reader.found()
    assert (found.interval, found.steps) == (60.0, range(3, 4))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ('{"StartStep": 0, "NumSteps": 3}', range(3)),
        ('{"StartStep": 5, "NumSteps": None, }', range(5, 6)),
        ('{"NumSteps": 2, }', range(2)),
        ('{"StartStep": "4", "NumSteps": "2"}', range(4, 6)),
        ("{}", range(10, 13)),
        ("", range(10, 13)),
    ],
)
def test_detailed_profiling(reader: Reader, text: str, steps: range) -> None:
    reader.config(ProfilingParameters={DETAILED: text, "LocalPath": "/opt/ml/output/profiler"})
    assert reader.found().steps == steps
    assert reader.said == []


@pytest.mark.parametrize(
    "text", ['{"StartTimeInSecSinceEpoch": 1790000000, "Duration": 60, }', '{"Default": "x"}']
)
def test_detailed_profiling_by_time_is_not_supported(reader: Reader, text: str) -> None:
    reader.config(ProfilingParameters={DETAILED: text})
    assert reader.found().steps == range(10, 13)
    assert len(reader.said) == 1
    assert "StartStep and NumSteps" in reader.said[0]
    assert "steps 10 to 12" in reader.said[0]


def test_the_sdks_default_configuration(reader: Reader) -> None:
    python = '"ProfilerName": "cprofile", "cProfileTimer": "default", '
    parameters = {
        "LocalPath": "/opt/ml/output/profiler",
        "RotateMaxFileSizeInBytes": "10485760",
        "RotateFileCloseIntervalInSeconds": "60",
        "FileOpenFailThreshold": "50",
        "DetailedProfilingConfig": '{"StartStep": 5, "NumSteps": 1, }',
        "DataloaderProfilingConfig": '{"StartStep": 7, "NumSteps": 1, "MetricsRegex": ".*", }',
        "PythonProfilingConfig": f'{{"StartStep": 9, "NumSteps": 3, {python}}}',
        "HorovodProfilingConfig": '{"StartStep": 13, "NumSteps": 1, }',
        "SMDataParallelProfilingConfig": '{"StartStep": 15, "NumSteps": 1, }',
    }
    reader.config(ProfilingParameters=parameters)
    assert reader.found().steps == range(5, 6)
    assert len(reader.said) == 1
    for name in ("PythonProfilingConfig", "HorovodProfilingConfig"):
        assert name in reader.said[0]
    for name in ("Detailed", "Dataloader", "FileOpen", "Rotate", "LocalPath"):
        assert name not in reader.said[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"ProfilingIntervalInMilliseconds": 300},
            "ProfilingIntervalInMilliseconds: expected one of (100, 200, 500, 1000, 5000, 60000), "
            "found 300",
        ),
        (
            {"ProfilingIntervalInMilliseconds": "fast"},
            "ProfilingIntervalInMilliseconds: expected a number, found 'fast'",
        ),
        ({"DisableProfiler": 3}, "DisableProfiler: expected true or false, found 3"),
        ({"ProfilingParameters": [1]}, "ProfilingParameters: expected an object, found [1]"),
        (
            {"ProfilingParameters": {"LocalPath": 3}},
            "ProfilingParameters.LocalPath: expected a path, found 3",
        ),
        (
            {"ProfilingParameters": {"RotateMaxFileSizeInBytes": "0"}},
            "ProfilingParameters.RotateMaxFileSizeInBytes: expected a number above 0, found '0'",
        ),
        (
            {"ProfilingParameters": {DETAILED: "StartStep=5"}},
            f"ProfilingParameters.{DETAILED}: expected an object, found 'StartStep=5'",
        ),
        (
            {"ProfilingParameters": {DETAILED: '{"StartStep": -1}'}},
            f"ProfilingParameters.{DETAILED}.StartStep: expected a whole number, at least 0, "
            "found -1",
        ),
        (
            {"ProfilingParameters": {DETAILED: '{"NumSteps": 1.5}'}},
            f"ProfilingParameters.{DETAILED}.NumSteps: expected a whole number, at least 0, "
            "found 1.5",
        ),
        (
            {"ProfilingParameters": {DETAILED: '{"NumSteps": true}'}},
            f"ProfilingParameters.{DETAILED}.NumSteps: expected a number, found True",
        ),
    ],
)
def test_invalid_fields_are_named(reader: Reader, config: dict[str, Any], message: str) -> None:
    reader.config(**config)
    with pytest.raises(ProfilerError) as raised:
        reader.read()
    assert str(raised.value) == f"{reader.path}: {message}"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_a_file_that_is_not_an_object(reader: Reader, text: str) -> None:
    reader.text(text)
    with pytest.raises(
        ProfilerError, match=r"profilerconfig.json: expected a JSON object"
    ) as raised:
        reader.read()
    assert "\n" not in str(raised.value)
