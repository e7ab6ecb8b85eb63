import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.report import SECTIONS, render, write_report
from container.monitoring.profiler.report.__main__ import main, read_rules
from container.monitoring.profiler.report.context import ReportContext
from container.monitoring.profiler.rules import evaluate
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleError, parse_rules
from tests.unit.container.monitoring.profiler.folders import (
    Host,
    busy_host,
    constant,
    write_aws,
    write_berth,
    write_operators,
)
from tests.unit.container.monitoring.profiler.recorded import fired, recorded

EVIL = """</script><script>document.body.id='owned'</script><img src=x onerror="alert(1)">"""


class ReadPage(HTMLParser):
    """A page's text, ids, links and elements; the scripts' contents by their ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append(tag)
        self.ids += [each] if (each := given.get("id")) else []
        self.links += [each] if tag == "a" and (each := given.get("href")) else []
        self._script = (given.get("id") or "script") if tag in ("script", "style") else None

    def handle_endtag(self, _: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.words.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def written(folder: Path, into: Path) -> tuple[ReadPage, dict[str, Any]]:
    page = write_report(folder, into).page
    return ReadPage(page.read_text()), json.loads((into / "report.json").read_text())


def test_the_page_has_every_section_and_no_broken_link(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=240, steps=60))
    write_operators(folder / "data" / "profiler")
    page, figures = written(folder, tmp_path / "report")
    assert {"verdict", *(anchor for anchor, _, _ in SECTIONS)} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert "broken" not in page.text
    assert "failures" not in figures
    for title in (
        "Training job summary", "System usage statistics", "Framework metrics summary",
        "Rules summary", "Step durations", "GPU utilisation", "Workload balancing",
        "Data loading", "Batch size", "CPU bottlenecks", "I/O bottlenecks", "GPU memory",
        "Learning curves", "not enough data: 240 of 1 000 points", "LossNotDecreasing",
    ):  # fmt: skip
        assert title in page.text, title
    assert figures["job"]["job"] == "berth-demo"
    assert figures["steps"]["steps"] == 60
    assert {row["metric"] for row in figures["system"]} >= {"CPU", "GPU", "memory", "I/O wait"}
    assert figures["verdict"]["tone"] == "improvable"
    assert set(figures["charts"]) == set(json.loads(page.scripts["charts"]))


def test_a_file_for_every_rule_and_their_statuses(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=240, steps=60))
    report = write_report(folder, tmp_path / "report")
    files = {path.stem for path in (tmp_path / "report" / "profiler-reports").iterdir()}
    assert files == set(PROFILER_RULES)
    found = json.loads((tmp_path / "report/profiler-reports/BatchSize.json").read_text())
    assert set(found) == {
        "RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters",
    }  # fmt: skip
    statuses = json.loads((tmp_path / "report" / "profiler-rules.json").read_text())
    assert {each["RuleConfigurationName"] for each in statuses} == set(PROFILER_RULES)
    assert statuses == report.statuses
    assert not list(tmp_path.rglob(".*"))  # no partial file remains


def test_a_folder_written_by_aws(tmp_path: Path) -> None:
    folder = write_aws(tmp_path, busy_host("algo-1", 240), busy_host("algo-2", 240))
    page, figures = written(folder, tmp_path / "report")
    assert figures["job"]["hosts"] == ["algo-1", "algo-2"]
    assert figures["framework"]["modes"][0]["mode"] == "train"
    assert "No debugger rules:" in page.text
    assert "No curves:" in page.text


def test_the_report_of_an_empty_job_says_that_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    page, figures = written(tmp_path / "job", tmp_path / "report")
    assert "Nothing was recorded, so there is nothing to judge." in page.text
    for missing in (
        "No times:", "No system metrics:", "No framework events:", "No operators:",
        "No training steps:", "No GPU", "No curves:", "No epochs:",
    ):  # fmt: skip
        assert missing in page.text, missing
    assert figures["problems"]
    assert figures["charts"] == {}


def test_a_job_without_a_gpu_and_one_without_steps(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "cpu", busy_host(points=120, gpus=0, steps=30))
    page, _ = written(folder, tmp_path / "one")
    assert "No GPU: the job trained on processors." in page.text
    folder = write_berth(tmp_path / "idle", Host(cpu=constant(60, 5, 2)))
    page, _ = written(folder, tmp_path / "two")
    assert "No training step was recorded" in page.text
    assert "broken" not in page.text


def test_all_of_many_hosts_are_shown(tmp_path: Path) -> None:
    hosts = [busy_host(f"algo-{n}", points=60, gpus=2, steps=20) for n in range(1, 12)]
    page, figures = written(write_berth(tmp_path / "job", *hosts), tmp_path / "report")
    assert [f"algo-{n}" for n in range(1, 12)] == figures["job"]["hosts"]
    assert len(figures["steps"]["by_rank"]) == 11
    assert "rank 10 on algo-11" in page.text


def test_malicious_names_are_escaped(tmp_path: Path) -> None:
    folder = write_berth(
        tmp_path / "job", busy_host(EVIL.replace("/", ""), points=120, steps=30), job={"job": EVIL}
    )
    operators = write_operators(folder / "data" / "profiler")
    table = json.loads(operators.read_text())
    operators.write_text(json.dumps([{**row, "name": EVIL} for row in table]))
    rules = folder / "data" / "rules" / "debug.json"
    rules.write_text(json.dumps([{**fired("Own", EVIL), "RuleConfigurationName": EVIL}]))
    page, _ = written(folder, tmp_path / "report")
    assert page.elements.count("script") == 3
    assert "img" not in page.elements
    assert EVIL in page.text
    assert json.loads(page.scripts["charts"])
    assert "<" not in page.scripts["charts"]


def test_the_page_allows_its_two_scripts_only_and_no_requests(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60))
    page = write_report(folder, tmp_path / "report").page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', unescape(page.read_text()))
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]+' 'sha256-[\w+/=]+'", rules["script-src"])
    assert "http" not in policy[1]
    assert page.stat().st_size < 3_000_000


def test_a_failing_section_does_not_affect_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = recorded(use={"CPU": 50})
    report = ReportContext(ProfileMetrics(job, ()))
    monkeypatch.setattr(ProfileMetrics, "system", property(lambda _: 1 / 0))
    page = ReadPage(render(report))
    assert "System usage statistics could not be completed (ZeroDivisionError" in page.text
    assert "Training job summary could not" not in page.text
    assert "Step durations" in page.text
    assert "ZeroDivisionError" in report.data["failures"]["System usage statistics"]


def test_the_page_is_written_even_if_the_json_files_cannot_be(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60, steps=20))
    into = tmp_path / "report"
    for taken in (into / "report.json", into / "profiler-reports", into / "profiler-rules.json"):
        taken.parent.mkdir(exist_ok=True)
        taken.mkdir() if taken.suffix else taken.write_text("a file")
    lines: list[str] = []
    page = write_report(folder, into, say=lines.append).page
    assert "Training job summary" in page.read_text()
    assert len([line for line in lines if line.startswith("profiler report: ")]) == 3


def test_an_earlier_report_is_kept_if_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60, steps=20))
    page = write_report(folder, tmp_path / "report").page
    before = page.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder, tmp_path / "report")
    assert page.read_bytes() == before
    assert not list((tmp_path / "report").rglob(".*"))


def test_damaged_recordings_still_give_a_report(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=240, steps=40))
    for path in sorted(folder.rglob("*.json"))[::2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    page, figures = written(folder, tmp_path / "report")
    assert figures["problems"]
    assert figures["problems"][0] in page.text
    assert "failures" not in figures


def test_a_debugger_rule_shows_its_step_and_a_profiler_rule_its_time(tmp_path: Path) -> None:
    job = recorded(
        losses=[2.0] * 100, use={"CPU": 50}, debug_rules=[fired("DeadRelu", steps=[7, 9])],
        durations=[0.1] * 100 + [2.0] * 11 + [0.1] * 100,
    )  # fmt: skip
    rules = parse_rules(PROFILER_RULES, ["StepOutlier"], {"StepOutlier_n_outliers": 1})
    report = ReportContext(ProfileMetrics(job, evaluate(job, rules)))
    page = ReadPage(render(report))
    specs = json.loads(page.scripts["charts"])
    assert [each["x"] for each in specs["curve-loss"]["moments"]] == [4, 9]  # by time, where known
    assert "#step-DeadRelu-7" in page.links
    times = [each["anchor"] for each in specs["utilisation"]["moments"]]
    assert "moment-profiler-StepOutlier-1" in times
    assert "#moment-profiler-StepOutlier-1" in page.links
    assert "moment-profiler-StepOutlier-1" in page.ids


def test_charts_are_small_and_valid_for_plotly(tmp_path: Path) -> None:
    from plotly import graph_objects

    folder = write_berth(tmp_path / "job", busy_host(points=2000, gpus=2, steps=2000))
    page, _ = written(folder, tmp_path / "report")
    for name, spec in json.loads(page.scripts["charts"]).items():
        painted = json.loads(re.sub(r'"--[\w-]+"', '"#123456"', json.dumps(spec)))
        graph_objects.Figure(painted["data"], painted["layout"])
        for trace in spec["data"]:
            assert len(trace.get("x", [])) <= 1500, name


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60, steps=20))
    assert main([str(folder), "--into", str(tmp_path / "out"), "--rules", '["StepOutlier"]']) == 0
    out, err = capsys.readouterr()
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert out.splitlines() == [
        f"verdict: {figures['verdict']['sentences'][0]}",
        f"report: {tmp_path / 'out' / 'profiler-report.html'}",
    ]
    assert "reading" in err
    assert [p.name for p in (tmp_path / "out/profiler-reports").iterdir()] == ["StepOutlier.json"]
    assert main([str(tmp_path / "nowhere"), "--into", str(tmp_path)]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main([str(folder), "--into", str(tmp_path), "--rules", "["]) == 1
    assert "--rules: expected JSON" in capsys.readouterr().err


def test_the_statuses_are_of_the_given_rules_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60, steps=20))
    statuses = tmp_path / "rules" / "profiler.json"
    command = [str(folder), "--into", str(tmp_path / "out"), "--rules", '["ProfilerReport"]']
    assert main([*command, "--statuses", str(statuses)]) == 0
    found = json.loads(statuses.read_text())
    assert [each["RuleConfigurationName"] for each in found] == ["ProfilerReport"]
    every = json.loads((tmp_path / "out" / "profiler-rules.json").read_text())
    assert {each["RuleConfigurationName"] for each in every} == set(PROFILER_RULES)
    assert found[0] in every
    (tmp_path / "file").touch()
    assert main([*command, "--statuses", str(tmp_path / "file" / "profiler.json")]) == 1
    out, err = capsys.readouterr()
    assert "report: " in out
    assert "file" in err.splitlines()[-1]


def test_a_failing_verdict_does_not_affect_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReportContext, "verdict", property(lambda _: 1 / 0))
    report = write_report(write_berth(tmp_path / "job", busy_host(points=60)), tmp_path / "report")
    assert report.verdict == ""
    assert "The verdict could not be completed" in ReadPage(report.page.read_text()).text
    assert len(report.statuses) == len(PROFILER_RULES)


def test_rules_in_three_shapes() -> None:
    assert [each.rule for each in read_rules('["batchsize"]')] == ["BatchSize"]
    patient = {each.rule: each.parameters for each in read_rules('{"BatchSize_patience": 5}')}
    assert patient["BatchSize"]["patience"] == 5
    asked = {"RuleConfigurationName": "mine", "RuleParameters": {"rule_to_invoke": "IOBottleneck"}}
    assert read_rules(json.dumps([asked]))[0].name == "mine"
    with pytest.raises(RuleError, match="BatchSize"):
        read_rules('["BatchSice"]')


def test_neither_torch_nor_smdebug_is_imported() -> None:
    code = (
        "import sys, container.monitoring.profiler.report.__main__\n"
        "found = [name for name in ('torch', 'smdebug', 'serve', 'local') if name in sys.modules]\n"
        "sys.exit(len(found))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_shared_with_the_rules_give_the_same_page(tmp_path: Path) -> None:
    folder = write_berth(tmp_path / "job", busy_host(points=60, steps=20))
    recording = Recording.read(folder)
    outcomes = evaluate(recording, parse_rules(PROFILER_RULES, ["auto"]))
    page = render(ReportContext(ProfileMetrics(recording, outcomes)))
    assert page == write_report(folder, tmp_path / "report").page.read_text()
