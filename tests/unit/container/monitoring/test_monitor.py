"""Complete jobs in this process, with and without the profiler and the debugger."""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from container.data.crop import RandomCrop
from container.errors import JobEnded
from container.monitoring import monitor
from tests.unit.container.modules import imported_anew

WATCHED = {
    "profile": True,
    "profile_interval": 100,
    "profile_steps": "1-2",
    "debug": True,
    "save_interval": 2,
    "rules": "VanishingGradient,Overfit,ExplodingTensor",
}


def read(path: Any) -> Any:
    return json.loads(path.read_text())


def by_name(statuses: Any) -> Any:
    return {each["RuleConfigurationName"]: each["RuleEvaluationStatus"] for each in statuses}


def test_a_monitored_job_writes_its_files_and_trains_the_same_model(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    base = job(epochs=2)
    plain = load_file(base / "model" / "model.safetensors")
    (base / "checkpoints").rename(base / "earlier")
    capsys.readouterr()
    base = job(epochs=2, **WATCHED)
    log = capsys.readouterr().out
    watched = load_file(base / "model" / "model.safetensors")
    assert all(watched[name].equal(value) for name, value in plain.items())

    data = base / "output" / "data"
    debug = read(data / "rules" / "debug.json")
    assert by_name(debug).keys() == {"VanishingGradient", "Overfit", "ExplodingTensor"}
    assert by_name(debug)["ExplodingTensor"] == "NoIssuesFound"
    assert not set(by_name(debug).values()) & {"InProgress", "Error"}
    profiler = read(data / "rules" / "profiler.json")
    assert len(profiler) == 12
    assert "InProgress" not in by_name(profiler).values()
    assert len(list((data / "report" / "profiler-reports").glob("*.json"))) == 12
    page = (data / "report" / "profiler-report.html").read_text()
    assert "VanishingGradient" in page
    verdict = read(data / "report" / "report.json")["verdict"]["sentences"][0]
    assert f"\nverdict: {verdict}\n" in log
    assert f"\nreport: {data / 'report' / 'profiler-report.html'}\n" in log
    assert "no report" not in log

    facts = read(data / "profiler" / "job.json")
    moments = ["started", "training_started", "training_ended", "ended"]
    assert sorted(moments, key=facts.get) == moments
    assert facts["hosts"] == ["algo-1"]
    curves = [json.loads(line) for line in (data / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curves] == list(range(len(curves)))
    assert all(line["gradient_norm"] > 0 for line in curves)
    (operators,) = (data / "profiler" / "framework" / "torch").glob("*operators.json")
    assert "convolution" in operators.read_text()


def test_a_slow_loader_is_reported(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(work: Any) -> Any:
        def slow(*given: Any) -> Any:
            time.sleep(0.1)
            return work(*given)

        return slow

    for name in ("load", "crop"):
        monkeypatch.setattr(RandomCrop, name, slowly(getattr(RandomCrop, name)))
    monkeypatch.setattr(monitor, "available_cpus", lambda: 4)
    base = job(image_size=72, workers=0, profile=True, profile_steps="none", batch_size=12)
    data = base / "output" / "data"
    assert by_name(read(data / "rules" / "profiler.json"))["Dataloader"] == "IssuesFound"
    report = read(data / "report" / "report.json")
    (wait,) = (each for each in report["framework"]["phases"] if each["phase"] == "data")
    assert wait["share"] > 0.2
    first = report["verdict"]["recommendations"][0]
    # On a machine whose cores are busy with other processes, workers alone would not help.
    assert (first["hyperparameter"], first["from"]) in (
        ("workers", 0),
        ("instance_type", "4 cores"),
    )
    # Of the whole job: how much that is depends on how long the machine took to start and export.
    assert first["factor"] > 1


def test_a_failing_report_is_one_line_and_does_not_fail_the_job(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = job.base / "output" / "data"
    data.mkdir(parents=True)
    (data / "report").write_text("a file where the report's folder goes")
    job(profile=True, profile_steps="none")
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("profiler: no report: "))
    assert str(data / "report") in line
    assert not [line for line in lines if line.startswith(("verdict: ", "report: "))]
    assert set(by_name(read(data / "rules" / "profiler.json")).values()) == {"InProgress"}
    assert (job.base / "model" / "model.safetensors").exists()


def test_a_rule_that_fires_ends_training_and_the_model_is_written(
    job: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from smdebug.rules.rule import Rule\n"
        "class Always(Rule):\n"
        "    def invoke_at_step(self, step):\n"
        "        return step >= 2\n"
    )
    base = job(
        epochs=500,
        debug=True,
        save_interval=1,
        rules="Always",
        rules_file=own,
        stop_on="Always",
    )
    assert "training ends with the model so far: " in capsys.readouterr().out
    history = (base / "output" / "data" / "metrics.jsonl").read_text().splitlines()
    assert 0 < len(history) < 500
    assert (base / "model" / "model.safetensors").exists()
    (status,) = read(base / "output" / "data" / "rules" / "debug.json")
    assert (status["RuleConfigurationName"], status["RuleEvaluationStatus"]) == (
        "Always",
        "IssuesFound",
    )
    assert not (base / "output" / "failure").exists()


def test_the_configuration_files_of_a_request_are_used(job: Any) -> None:
    config = job.base / "input" / "config"
    (config / "rules").mkdir(parents=True)
    (config / "rules" / "own.py").write_text(
        "from smdebug.rules.rule import Rule\n"
        "class Broken(Rule):\n"
        "    def invoke_at_step(self, step):\n"
        "        raise RuntimeError('not today')\n"
    )
    asked = [
        ("vanishing", {"rule_to_invoke": "VanishingGradient", "threshold": "1e9"}),
        ("mine", {"rule_to_invoke": "Broken", "source_s3_uri": "s3://bucket/code/own.py"}),
    ]
    files = {
        "debughookconfig": {
            "LocalPath": "/opt/ml/output/elsewhere",
            "HookParameters": {"save_interval": "2"},
            "CollectionConfigurations": [{"CollectionName": "losses"}],
        },
        "debugruleconfigurations": [
            {"RuleConfigurationName": name, "RuleEvaluatorImage": "any", "RuleParameters": given}
            for name, given in asked
        ],
        "profilerconfig": {"ProfilingIntervalInMilliseconds": 100},
        "profilerruleconfigurations": [
            {
                "RuleConfigurationName": "report",
                "RuleEvaluatorImage": "any",
                "RuleParameters": {"rule_to_invoke": "ProfilerReport", "BatchSize_patience": "7"},
            }
        ],
    }
    for name, value in files.items():
        (config / f"{name}.json").write_text(json.dumps(value))
    base = job()
    data = base / "output" / "data"
    statuses = {each["RuleConfigurationName"]: each for each in read(data / "rules" / "debug.json")}
    assert by_name(statuses.values()) == {"vanishing": "IssuesFound", "mine": "Error"}
    assert "not today" in statuses["mine"]["StatusDetails"]
    assert list((base / "output" / "elsewhere" / "events").rglob("*.tfevents"))
    assert (base / "output" / "profiler" / "system").is_dir()
    assert (data / "profiler" / "job.json").exists(), "copied to where output.tar.gz takes it"
    assert by_name(read(data / "rules" / "profiler.json")).keys() == {"report"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"debug": True, "rules": "Overfitt"}, "unknown rule 'Overfitt': did you mean 'Overfit'"),
        (
            {"profile": True, "rule_parameters": '{"BatchSize_windw": 3}'},
            "rule BatchSize: unknown parameter 'windw': did you mean 'window'",
        ),
        (
            {"debug": True, "rules": "Mine", "rules_file": "/nowhere/mine.py"},
            "hyperparameter 'rules_file': expected a Python file, found no /nowhere/mine.py",
        ),
    ],
)
def test_invalid_monitoring_options_are_refused_before_the_data_is_read(
    job: Any, given: Any, said: str
) -> None:
    with pytest.raises(JobEnded) as ended:
        job(channels=(), **given)
    assert said in str(ended.value)


def test_a_rules_channel_needs_one_file_or_its_name(job: Any, tmp_path: Path) -> None:
    channel = job.base / "input" / "data" / "rules"
    channel.mkdir(parents=True)
    for name in ("one", "two"):
        (channel / f"{name}.py").write_text("class Mine:\n    def invoke_at_step(self, s): ...\n")
    with pytest.raises(JobEnded, match=r"expected one Python file, found \['one.py', 'two.py'\]"):
        job(channels=("rules",), debug=True, rules="Mine")
    with pytest.raises(JobEnded, match=r"two.py: expected a class 'Other'"):
        job(channels=("rules",), debug=True, rules="Other", rules_file="two.py")


def test_a_job_without_monitoring_imports_none_of_it(job: Any) -> None:
    with imported_anew("container", "smdebug"):
        job(debug=False, profile=False, main=importlib.import_module("container.train").main)
        imported = list(sys.modules)
    assert "container.training.trainer" in imported
    found = [
        name
        for name in imported
        if name.startswith(
            (
                "smdebug",
                "container.monitoring.monitor",
                "container.monitoring.debugger",
                "container.monitoring.profiler",
            )
        )
    ]
    assert found == []
