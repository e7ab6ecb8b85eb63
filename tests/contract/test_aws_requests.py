"""The requests that each command sends with `--where aws`, tested against moto.

moto and the local SageMaker must accept every request, it must fit botocore's service model, and it
must equal the snapshot of its case (`snapshots/<case>.json`) except for times.
`BERTH_RECORD=1 pytest tests/contract/test_aws_requests.py` writes the snapshots; review their
changes before you commit them, as requests can cost money on AWS.

moto 5.2 lacks ListTrainingJobsForHyperParameterTuningJob, UpdateEndpoint and the Stop operations.
`aws_cases.Moto` answers them; their requests are validated like all others.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, tzinfo
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import boto3
import pytest
import requests

from local.cli import main
from local.commands import deploy, push
from tests.contract.aws_cases import ACCOUNT, CASES, REGION, ROLE, Case, Moto, bucket
from tests.contract.recorder import Recorder, Sent, compare, normalised, recording, snapshot
from tests.contract.second_opinion import SecondOpinion

SNAPSHOTS = Path(__file__).parent / "snapshots"
RECORD = os.environ.get("BERTH_RECORD") == "1"
MISSING = {
    "HeadBucket": {"404"},
    "HeadObject": {"404"},
    "DescribeEndpoint": {"ValidationException"},
    "DescribeTrainingJob": {"ValidationException"},
    "DescribeHyperParameterTuningJob": {"ResourceNotFound"},
    "DescribeTransformJob": {"ValidationException"},
    "DescribeRepositories": {"RepositoryNotFoundException"},
    "DescribeLogStreams": {"ResourceNotFoundException"},
    "DeleteSchedule": {"ResourceNotFoundException"},
    "CreateSchedule": {"ConflictException"},
}
"""Expected error codes for resources that are missing or exist already; no others are allowed."""
MAKES = re.compile("Create|Put|Register|UpdateEndpoint|Invoke")
"""Operations that a plan shows; an existing schedule is updated instead of created."""

ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
"""IAM actions whose names differ from the operations'."""
FREE = {"GetCallerIdentity", "DeleteSchedule"}
"""Operations that a policy need not grant: GetCallerIdentity is always allowed, and a caller who
may not delete schedules is assumed to have none."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def moto(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Moto:
    """An empty moto server that boto3 uses as AWS, and a Docker engine that pushes to its ECR."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BERTH_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "BERTH_ROLE": ROLE,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    requests.post(f"{moto_url}/moto-api/reset", timeout=60).raise_for_status()
    moto = Moto(moto_url, boto3.Session().client)
    monkeypatch.setattr(push, "connect_engine", lambda: _engine(moto))
    monkeypatch.setattr(deploy, "datetime", Ticking)
    return moto


@pytest.fixture
def recorder(moto: Moto) -> Iterator[Recorder]:
    with recording(Recorder(moto.url, moto.answers())) as recorder:
        moto.client = boto3.Session().client  # earlier sessions are not recorded
        yield recorder


@pytest.fixture
def opinion(tmp_path: Path) -> Iterator[SecondOpinion]:
    opinion = SecondOpinion(tmp_path / "home")
    yield opinion
    opinion.close()


@contextmanager
def _engine(moto: Moto) -> Iterator[Any]:
    yield Engine(moto)


class Ticking(datetime):
    """A clock that advances a second at each reading, so that generated names are unique."""

    _passed: ClassVar = count()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=next(cls._passed))


class Engine:
    """The part of docker's client that `push` uses; pushing puts a manifest into moto's ECR."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self.images = self.api = self
        self.attrs: dict[str, Any] = {}

    def get(self, _image: str) -> "Engine":
        return self

    def tag(self, _uri: str, _tag: str) -> bool:
        return True

    def push(self, uri: str, tag: str, **_: Any) -> list[dict[str, Any]]:
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"size": 1, "digest": "sha256:" + "a" * 64},
            "layers": [],
        }
        from moto.ecr.exceptions import ImageAlreadyExistsException
        from moto.ecr.models import ecr_backends

        with suppress(ImageAlreadyExistsException):
            ecr_backends[ACCOUNT][REGION].put_image(
                repository_name=uri.partition("/")[2],
                image_manifest=json.dumps(manifest),
                image_tag=tag,
                image_manifest_mediatype=str(manifest["mediaType"]),
            )
        return [{"status": "done"}]


def prepare(case: Case, moto: Moto, folder: Path) -> None:
    """Set up the case; the bucket with the data set comes first if `given` trains from it."""
    case.write(folder)
    if any(command.startswith(("train", "tune")) for command in case.given):
        bucket(moto)
    for command in case.given:
        assert run(command) == 0
    case.before(moto)


def planned(sent: Sent) -> str:
    """A request as a plan prints it; an invocation without its body, which comes last."""
    request = {name: value for name, value in sent.parameters.items() if name != "Body"}
    text = json.dumps(request, indent=2, ensure_ascii=False)
    if "Body" in sent.parameters:
        text = text.removesuffix("\n}")
    return f"\n{sent.operation}\n{text}"


def action(sent: Sent) -> str:
    """The IAM action a request needs."""
    service = "sagemaker" if sent.service == "sagemaker-runtime" else sent.service
    return f"{service}:{ACTIONS.get(sent.operation, sent.operation)}"


def granted(plan: str) -> set[str]:
    """The actions in the policy that a plan prints for the caller."""
    policy = plan.partition("for the caller of these operations")[2].partition("IAM policy")[0]
    return set(re.findall(r'"([a-z0-9-]+:[A-Z]\w+)"', policy))


def run(command: str, *more: str) -> int:
    """`berth COMMAND --where aws`; its exit status."""
    return main([*shlex.split(command), "--where", "aws", *more])


@pytest.mark.parametrize("name", CASES)
def test_requests_match_the_plan_the_models_and_the_snapshot(
    name: str,
    moto: Moto,
    recorder: Recorder,
    opinion: SecondOpinion,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    prepare(case, moto, tmp_path)
    capfd.readouterr()
    shown, looked = "", set()
    if case.plans:
        before = len(recorder.sent)
        assert run(case.command, "--plan") == 0, capfd.readouterr().err
        looking = recorder.sent[before:]
        assert [sent.operation for sent in looking if not sent.reads] == []
        looked = {action(sent) for sent in looking if sent.operation.startswith("Describe")}
        shown = normalised(capfd.readouterr().out)
    recorder.asked = True
    assert run(case.command) == 0, capfd.readouterr().err
    for sent in recorder.sent:
        assert sent.refused is None or sent.refused in MISSING.get(sent.operation, ()), sent
        opinion.judge(sent)
    requested = recorder.requested()
    made = [sent for sent in requested if sent.service != "s3" and MAKES.match(sent.operation)]
    assert made or not case.plans or name.startswith("upload")
    if case.plans:
        needed = {action(sent) for sent in requested if sent.operation not in FREE}
        # The policy may omit Describe operations that the plan itself has already called.
        assert needed - granted(shown) - looked == set()
    for sent in made if case.plans else ():
        assert normalised(planned(sent)) in shown
    found = snapshot(f"berth {case.command} --where aws", requested)
    compare(SNAPSHOTS / f"{name}.json", found, record=RECORD)


@pytest.mark.parametrize("command", ["delete flowers --plan", "delete --all --plan"])
def test_a_planned_deletion_only_reads(
    command: str, moto: Moto, recorder: Recorder, tmp_path: Path
) -> None:
    prepare(CASES["invoke"], moto, tmp_path)
    recorder.asked = True
    assert run(command) == 0
    assert [sent.operation for sent in recorder.requested() if not sent.reads] == []


def test_each_case_has_one_snapshot() -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == {f"{name}.json" for name in CASES}
