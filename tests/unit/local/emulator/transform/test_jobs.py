import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.emulator.errors import ServiceError
from local.emulator.executors import Executor
from local.emulator.store import Kind
from local.emulator.transform.jobs import TransformJobs
from local.statuses import TERMINAL
from tests.unit.local.emulator.fakes import BUCKET
from tests.unit.local.emulator.hosting_harness import QUICK, HostingHarness, build

process_only = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@dataclass
class Jobs:
    """Transform jobs with a model `m`, and their outputs."""

    harness: HostingHarness
    runner: TransformJobs

    def create(self, name: str = "job", *, model: str = "m", **changes: Any) -> None:
        source = {"DataSource": {"S3DataSource": changes.pop("Source", PREFIX)}}
        request = {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {**source, "ContentType": "text/plain", **changes.pop("Input", {})},
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", **changes.pop("Output", {})},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **changes,
        }
        self.runner.create(request)

    def body(self, name: str = "job") -> dict[str, Any]:
        return self.harness.context.store.get(Kind.TRANSFORM_JOB, name).body

    def wait(self, name: str = "job") -> dict[str, Any]:
        return self.harness.until(
            lambda: self.body(name), lambda body: body["TransformJobStatus"] in TERMINAL
        )

    def run(self, **changes: Any) -> dict[str, Any]:
        self.create(**changes)
        return self.wait()

    def outputs(self) -> dict[str, bytes]:
        names = self.harness.objects.names("out/")
        return {name: self.harness.objects.read(BUCKET, name) for name in names}

    def posts(self) -> int:
        """Return how many requests the containers received."""
        return sum("POST /invocations" in line for line in self.harness.logs.lines())


PREFIX = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in"}


@pytest.fixture
def jobs(tmp_path: Path, toy_executor: Executor) -> Iterator[Jobs]:
    harness = build(tmp_path, toy_executor)
    harness.model("m")
    runner = TransformJobs(harness.context, timing=QUICK)
    yield Jobs(harness, runner)
    runner.shutdown()
    harness.context.store.close()


def test_every_object_has_an_output_below_the_output_path(jobs: Jobs) -> None:
    jobs.harness.objects.add("in/a.txt", b"first")
    jobs.harness.objects.add("in/deep/b.txt", b"second")
    jobs.create(Tags=[{"Key": "team", "Value": "a"}])
    assert jobs.body()["TransformJobStatus"] == "InProgress"
    body = jobs.wait()
    assert body["TransformJobStatus"] == "Completed", body
    assert jobs.outputs() == {"out/a.txt.out": b"first", "out/deep/b.txt.out": b"second"}
    assert body["CreationTime"] <= body["TransformStartTime"] <= body["TransformEndTime"]
    assert body["TransformInput"]["DataSource"]["S3DataSource"] == PREFIX
    arn = body["TransformJobArn"]
    assert jobs.harness.context.store.tags(arn) == {"team": "a"}
    streams = [name for name in jobs.harness.logs.streams if "TransformJobs job/i-" in name]
    assert len(streams) == 2
    assert sum(name.endswith("/data-log") for name in streams) == 1
    notes = [line for line in jobs.harness.logs.lines() if "[sagemaker logs]" in line]
    assert notes[0].endswith(
        "MaxConcurrentTransforms=2, MaxPayloadInMB=6, BatchStrategy=SINGLE_RECORD"
    )
    assert not jobs.harness.context.home.job("transform-job", "job").exists()


@process_only
class TestSplitting:
    LINES = {"SplitType": "Line"}  # noqa: RUF012

    def test_one_line_per_request_assembled_by_lines(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a.csv", b"1\n2\n3\n")
        body = jobs.run(
            Input=self.LINES, Output={"AssembleWith": "Line"}, BatchStrategy="SingleRecord"
        )
        assert body["TransformJobStatus"] == "Completed"
        assert jobs.outputs() == {"out/a.csv.out": b"1\n2\n3\n"}
        jobs.harness.until(jobs.posts, lambda count: count == 3)

    def test_without_assembly_outputs_are_concatenated(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a.csv", b"1\n2\n3")
        jobs.run(Input=self.LINES, BatchStrategy="SingleRecord")
        assert jobs.outputs() == {"out/a.csv.out": b"123"}

    def test_a_request_has_as_many_lines_as_fit(self, jobs: Jobs) -> None:
        lines = [b"%d" % number * 300_000 for number in range(8)]
        jobs.harness.objects.add("in/a.csv", b"\n".join(lines))
        jobs.run(
            Input=self.LINES,
            Output={"AssembleWith": "Line"},
            BatchStrategy="MultiRecord",
            MaxPayloadInMB=1,
        )
        assert jobs.outputs() == {"out/a.csv.out": b"\n".join(lines) + b"\n"}
        jobs.harness.until(jobs.posts, lambda count: count == 3)

    def test_gzip(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a.csv.gz", gzip.compress(b"1\n2\n"))
        body = jobs.run(
            Input={"CompressionType": "Gzip", **self.LINES},
            Output={"AssembleWith": "Line"},
            BatchStrategy="SingleRecord",
        )
        assert body["TransformJobStatus"] == "Completed", body
        assert jobs.outputs() == {"out/a.csv.gz.out": b"1\n2\n"}

    def test_a_manifest_and_a_partial_prefix(self, jobs: Jobs) -> None:
        for name in ("x/one", "x/two", "x/three"):
            jobs.harness.objects.add(name, name)
        jobs.harness.objects.add(
            "list", json.dumps([{"prefix": f"s3://{BUCKET}/x/"}, "one", "three"])
        )
        jobs.run(Source={"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/list"})
        assert sorted(jobs.outputs()) == ["out/one.out", "out/three.out"]
        jobs.create(
            "second",
            Source={"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/x/t"},
            Output={"S3OutputPath": f"s3://{BUCKET}/out/second/"},
        )
        jobs.wait("second")
        second = [name for name in jobs.outputs() if name.startswith("out/second/")]
        assert second == ["out/second/three.out", "out/second/two.out"]


@process_only
class TestFailures:
    def test_a_failing_object_is_named_and_the_others_continue(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"status 415")
        jobs.harness.objects.add("in/b", b"good")
        body = jobs.run()
        assert body["TransformJobStatus"] == "Failed"
        assert body["FailureReason"] == (
            f"ClientError: {BUCKET}/in/a: the container answered 415: toy: as asked. 1 of 2 "
            "objects failed. See job logs for more information."
        )
        assert jobs.outputs() == {"out/b.out": b"good"}
        assert any(f"{BUCKET}/in/a: ClientError: the" in line for line in jobs.harness.logs.lines())
        jobs.harness.until(jobs.posts, lambda count: count == 2)

    def test_a_server_error_is_retried(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"status 500")
        body = jobs.run(ModelClientConfig={"InvocationsMaxRetries": 2})
        assert body["FailureReason"].startswith(f"AlgorithmError: {BUCKET}/in/a: the container")
        jobs.harness.until(jobs.posts, lambda count: count == 3)

    def test_a_record_that_is_too_large(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"x" * (1024**2 + 1))
        body = jobs.run(MaxPayloadInMB=1)
        assert "Too much data for max payload size of 1 MB" in body["FailureReason"]
        assert f"{BUCKET}/in/a" in body["FailureReason"]

    def test_one_line_too_large_leaves_no_output(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"ok\n" + b"x" * (1024**2 + 1) + b"\nok\n")
        body = jobs.run(Input={"SplitType": "Line"}, BatchStrategy="SingleRecord", MaxPayloadInMB=1)
        assert "Too much data" in body["FailureReason"]
        assert jobs.outputs() == {}

    def test_a_response_that_takes_too_long(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"sleep 3")
        body = jobs.run(
            ModelClientConfig={"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
        )
        assert f"AlgorithmError: {BUCKET}/in/a: no answer within 1 seconds" in body["FailureReason"]

    def test_truncated_gzip_missing_input_and_a_broken_model(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", gzip.compress(b"x" * 1000)[:-9])
        body = jobs.run(Input={"CompressionType": "Gzip"})
        assert "it is not whole gzip data" in body["FailureReason"]
        none = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/nothing"}
        jobs.create("none", Source=none)
        reason = jobs.wait("none")["FailureReason"]
        assert f"no objects found at s3://{BUCKET}/nothing" in reason
        jobs.harness.model("bad", {"broken": b""})
        jobs.create("bad", model="bad")
        reason = jobs.wait("bad")["FailureReason"]
        assert reason.startswith("AlgorithmError: The primary container for the transform job did")
        assert "it is broken" in reason

    def test_a_missing_model(self, jobs: Jobs) -> None:
        with pytest.raises(ServiceError, match="Could not find model") as caught:
            jobs.create(model="none")
        assert caught.value.code == "ValidationException"
        assert jobs.harness.context.store.every(Kind.TRANSFORM_JOB) == []


@process_only
class TestEnds:
    def test_stop(self, jobs: Jobs) -> None:
        for number in range(9):
            jobs.harness.objects.add(f"in/{number}", b"sleep 0.25")
        jobs.create()
        jobs.harness.until(jobs.outputs, bool)
        jobs.runner.stop("job")
        assert jobs.body()["TransformJobStatus"] in {"Stopping", "Stopped"}
        body = jobs.wait()
        assert body["TransformJobStatus"] == "Stopped"
        assert "FailureReason" not in body
        assert len(jobs.outputs()) < 9
        with pytest.raises(ServiceError, match="in status Stopped"):
            jobs.runner.stop("job")
        with pytest.raises(ServiceError, match="Requested resource not found"):
            jobs.runner.stop("other")

    def test_a_job_restarts_with_the_server(self, jobs: Jobs) -> None:
        for number in range(4):
            jobs.harness.objects.add(f"in/{number}", b"sleep 0.25")
        jobs.create()
        jobs.harness.until(jobs.outputs, bool)
        jobs.runner.shutdown()
        assert jobs.body()["TransformJobStatus"] == "InProgress"
        assert len(jobs.outputs()) < 4
        again = TransformJobs(jobs.harness.context, timing=QUICK)
        again.recover()
        assert jobs.wait()["TransformJobStatus"] == "Completed"
        assert len(jobs.outputs()) == 4
        again.shutdown()

    def test_a_dead_container_is_restarted(self, jobs: Jobs) -> None:
        jobs.harness.objects.add("in/a", b"die")
        jobs.harness.objects.add("in/b", b"good")
        body = jobs.run(MaxConcurrentTransforms=1, ModelClientConfig={"InvocationsMaxRetries": 3})
        assert f"AlgorithmError: {BUCKET}/in/a: Unable to get response" in body["FailureReason"]
        assert jobs.outputs() == {"out/b.out": b"good"}
