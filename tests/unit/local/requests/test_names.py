from datetime import UTC, datetime

import pytest

from local.errors import UserError
from local.requests.names import LEGAL, TUNING_LIMIT, checked_name, job_name

NOW = datetime(2026, 1, 2, 3, 4, 5, 67_890, tzinfo=UTC)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("s3://bucket/data/flowers/", "berth-flowers-20260102-030405-067"),
        ("file:///home/me/My Photos__1", "berth-My-Photos-1-20260102-030405-067"),
        ("s3://bucket/-/", "berth-job-20260102-030405-067"),
        ("x" * 99, f"berth-{'x' * 37}-20260102-030405-067"),
    ],
)
def test_the_name_of_a_job_has_its_purpose_and_time(data: str, expected: str) -> None:
    name = job_name(data, NOW)
    assert name == expected
    assert len(name) <= 63
    assert LEGAL.fullmatch(name)


def test_a_tuning_jobs_name_is_shorter() -> None:
    name = job_name("s3://bucket/a-long-name-of-data/", NOW, TUNING_LIMIT)
    assert name == "berth-a-long-20260102-030405-067"
    assert len(name) <= 32


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a b", "x" * 33])
def test_names_that_sagemaker_would_refuse(name: str) -> None:
    with pytest.raises(UserError, match="--name: found"):
        checked_name(name, TUNING_LIMIT)


def test_a_valid_name_is_not_changed() -> None:
    assert checked_name("my-job-1") == "my-job-1"
