from dataclasses import replace
from typing import Any

import pytest

from local.client import image_platform as subject
from local.client.image_platform import check_platform
from local.client.target import Target
from local.errors import UserError


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Simulate the engine's description of each image, by the image's name."""
    images: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(subject, "image_facts", lambda image, _timeout: images.get(image))
    return images


def test_a_local_image_for_another_architecture_is_refused(
    shown: dict[str, dict[str, Any]], moto_target: Target
) -> None:
    aws = replace(moto_target, where="aws")
    shown["host/berth:v1"] = {"Os": "linux", "Architecture": "arm64"}
    check_platform(aws, "host/berth:v1", ["ml.c7g.large"])
    check_platform(aws, "host/unknown:v1", ["ml.m5.large", None])
    for instance_type, whose in (("ml.m5.large", "ml.m5.large"), (None, "SageMaker")):
        with pytest.raises(UserError, match="host/berth:v1: platform: found linux/arm64") as raised:
            check_platform(aws, "host/berth:v1", ["ml.c7g.large", instance_type])
        assert whose in str(raised.value)


def test_the_local_sagemaker_runs_any_image_its_engine_can(
    shown: dict[str, dict[str, Any]], moto_target: Target
) -> None:
    shown["berth:latest"] = {"Os": "linux", "Architecture": "arm64"}
    check_platform(replace(moto_target, where="local"), "berth:latest", ["ml.m5.large"])
