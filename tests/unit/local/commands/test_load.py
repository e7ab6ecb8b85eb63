import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cli import main
from local.client.target import Target
from tests.unit.local.commands.runtime_server import RuntimeHandler, served

VARIANT = {"VariantName": "AllTraffic", "CurrentInstanceCount": 2}
LARGE = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large"}


class Runtime(RuntimeHandler):
    """Responds to at most `width` requests at once; others get `refusal`, if it is set."""

    width: threading.Semaphore
    refusal: int | None
    described: dict[str, Any]
    bodies: set[bytes]

    def do_POST(self) -> None:  # noqa: N802
        operation, body = self.read()
        if operation:
            self.answer(200, self.described[operation])
            return
        self.bodies.add(body)
        if not self.width.acquire(blocking=self.refusal is None):
            error = {"Message": "refused", "OriginalStatusCode": self.refusal}
            self.answer(424, error | {"OriginalMessage": "overloaded"}, "ModelError")
            return
        try:
            threading.Event().wait(0.01)
        finally:
            self.width.release()
        self.answer(200, {"predictions": []})


@pytest.fixture
def runtime() -> Iterator[Any]:
    described = {
        "DescribeEndpoint": {
            "EndpointStatus": "InService",
            "EndpointConfigName": "flowers",
            "ProductionVariants": [VARIANT],
        },
        "DescribeEndpointConfig": {"ProductionVariants": [LARGE]},
    }
    width = threading.Semaphore(2)
    with served(Runtime, width=width, refusal=None, bodies=set(), described=described) as runtime:
        yield runtime


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("red/1.jpg", "red/2.jpg", "blue/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


@pytest.fixture
def load(
    runtime: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    target = Target("local", runtime.url, "us-east-1", "123456789012", "", "", "")
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: target)
    monkeypatch.chdir(tmp_path)
    short = ("--seconds", "0.3")
    return lambda *options: main(["load", "flowers", str(photos), *short, *options])


def test_the_curve_its_knee_and_the_price_are_shown(
    load: Callable[..., int], runtime: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("--rate", "1000", "--max-concurrency", "4", "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [level["concurrency"] for level in told["levels"]] == [1, 2, 4]
    assert all(level["answered"] > 0 for level in told["levels"])
    assert told["knee"] in (1, 2, 4)
    assert (told["instance_type"], told["instances"]) == ("ml.m5.large", 2)
    chosen = next(each for each in told["levels"] if each["concurrency"] == told["chosen"])
    wanted = told["for_rate"]
    assert wanted["instances"] >= 1000 / (chosen["requests_per_second"] / 2)
    assert wanted["usd_per_hour"] == pytest.approx(0.115 * wanted["instances"])
    assert runtime.bodies == {b"red/1.jpg", b"red/2.jpg", b"blue/1.png"}
    assert "4 concurrent" in said.err
    assert "flowers" in (tmp_path / "flowers-load.html").read_text()


def test_refused_requests_end_the_measurement_and_are_named(
    load: Callable[..., int], runtime: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime.refusal = 503
    assert load("--output", "out/page.html") == 0
    out = capsys.readouterr().out
    assert "requests failed: HTTP 503: overloaded" in out
    assert "measured on this machine" not in out, "no rate was asked for"
    assert Path("out/page.html").exists()


def test_measurements_are_printed_if_the_page_cannot_be_written(
    load: Callable[..., int], runtime: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("page").mkdir()
    assert load("--output", "page") == 2
    assert "is a directory" in " ".join(capsys.readouterr().err.split())
    assert runtime.bodies == set(), "it is told before anything is sent"
    Path("flowers-load.html").mkdir()
    assert load("--max-concurrency", "1") == 1
    said = capsys.readouterr()
    assert "knee" in said.out
    assert "stopped at 1 request at once" in said.out
    assert "flowers-load.html" in said.err


def test_an_endpoint_that_refuses_the_image_is_not_measured(
    load: Callable[..., int], runtime: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime.refusal, runtime.width = 400, threading.Semaphore(0)
    assert load() == 1
    assert "HTTP 400: overloaded" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "flowers-load.html").exists()


def test_a_latency_that_cannot_be_reached(
    load: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("--p99", "0.01", "--rate", "9", "--max-concurrency", "1") == 1
    said = capsys.readouterr()
    assert "--p99 0.01" in said.err
    assert "knee" in said.out
    assert "USD" not in said.out
    assert Path("flowers-load.html").exists(), "what was measured is not lost"


def test_a_missing_variant(load: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert load("--variant", "blue") == 1
    assert "AllTraffic" in capsys.readouterr().err


def test_variants_of_two_types_have_no_price(
    load: Callable[..., int], runtime: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"VariantName": "B", "CurrentInstanceCount": 1}
    described = runtime.described
    described["DescribeEndpoint"]["ProductionVariants"] = [VARIANT, other]
    described["DescribeEndpointConfig"] = {
        "ProductionVariants": [LARGE, {"VariantName": "B", "InstanceType": "ml.c5.xlarge"}]
    }
    assert load("--rate", "5", "--max-concurrency", "1") == 0
    out = capsys.readouterr().out
    assert "--variant" in out
    assert "USD" not in out


def test_the_plan_sends_nothing(
    runtime: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("local", runtime.url, "us-east-1", "123456789012", "", "", "", plan=True)
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: target)
    assert main(["load", "flowers", str(photos)]) == 0
    assert "InvokeEndpoint" in capsys.readouterr().out
    assert not runtime.bodies
