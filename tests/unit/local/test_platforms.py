import botocore.session
import pytest

from local.platforms import (
    AMD64,
    ARM64,
    is_instance_type,
    of_engine,
    of_image,
    of_instance,
    problem,
)

GRAVITON_AND_GRACE = {
    "c6g", "c6gd", "c6gn", "c7g", "c8g", "m6g", "m6gd", "m8g", "r6g", "r6gd", "r7gd", "r8g",
    "p6e-gb200",
}  # fmt: skip


@pytest.mark.parametrize(
    "shape", ["TrainingInstanceType", "ProductionVariantInstanceType", "TransformInstanceType"]
)
def test_every_instance_type_of_sagemaker(shape: str) -> None:
    names = botocore.session.get_session().get_service_model("sagemaker").shape_for(shape).enum
    assert names
    for name in names:
        assert is_instance_type(name)
        family = name.split(".")[1]
        # A type that a later botocore added is in neither list.
        arm = family in GRAVITON_AND_GRACE
        assert of_instance(name) == (ARM64 if arm else AMD64), name


@pytest.mark.parametrize("name", ["c7g.large", "ml.m5", "local", "ml.m5.large ", ""])
def test_invalid_instance_types(name: str) -> None:
    assert not is_instance_type(name)


@pytest.mark.parametrize(
    ("machine", "platform"),
    [("x86_64", AMD64), ("aarch64", ARM64), ("arm64", ARM64), ("riscv64", "linux/riscv64")],
)
def test_the_platform_of_an_engine(machine: str, platform: str) -> None:
    assert of_engine({"OSType": "linux", "Architecture": machine}) == platform


def test_an_unknown_platform_is_not_a_problem() -> None:
    assert of_engine({}) is None
    assert of_image({"Os": "", "Architecture": ""}) is None
    assert problem({}, "ml.c7g.large") is None


def test_the_problem_names_both_and_the_remedy() -> None:
    found = problem({"Os": "linux", "Architecture": "amd64"}, "ml.m8g.large")
    assert found is not None
    for word in ("linux/amd64", "linux/arm64", "ml.m8g.large", "make build PLATFORM=linux/arm64"):
        assert word in found
