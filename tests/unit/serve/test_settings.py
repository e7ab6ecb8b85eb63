from pathlib import Path

import pytest

from serve.settings import Settings, SettingsError


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def test_defaults_are_those_of_a_real_time_endpoint() -> None:
    settings = read()
    assert settings.model_dir == Path("/opt/ml/model")
    assert (settings.port, settings.payload_mb, settings.strategy) == (8080, 25, "SINGLE_RECORD")
    assert settings.payload_bytes == 25 * 1024 * 1024
    assert settings.transforms == settings.cpus + 1


def test_sagemaker_names_the_port_and_the_base_directory() -> None:
    settings = read(SAGEMAKER_BIND_TO_PORT="9001", SAGEMAKER_BASE_DIR="/srv/ml")
    assert settings.port == 9001
    assert settings.model_dir == Path("/srv/ml/model")


def test_a_container_listens_everywhere_and_a_process_where_it_is_told() -> None:
    assert read().host == "0.0.0.0"
    assert read(BERTH_BIND_HOST="127.0.0.1").host == "127.0.0.1"


def test_the_precision_is_the_devices_own_unless_it_is_named() -> None:
    assert read().precision == "auto"
    assert read(BERTH_PRECISION="bfloat16").precision == "bfloat16"


def test_a_batch_transform_takes_larger_records_within_what_sagemaker_adds_up() -> None:
    settings = read(SAGEMAKER_BATCH="true")
    assert settings.payload_mb == 100
    assert settings.transforms * settings.advertised_mb <= 100


@pytest.mark.parametrize("payload", ["1", "30", "60", "100"])
def test_transforms_keep_to_the_sum_when_the_payload_is_given(payload: str) -> None:
    settings = read(SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB=payload)
    assert settings.payload_mb == settings.advertised_mb == int(payload)
    assert settings.transforms * settings.advertised_mb <= 100


def test_what_the_user_sets_is_what_is_advertised() -> None:
    settings = read(
        SAGEMAKER_BATCH="true",
        SAGEMAKER_MAX_CONCURRENT_TRANSFORMS="8",
        SAGEMAKER_MAX_PAYLOAD_IN_MB="6",
        SAGEMAKER_BATCH_STRATEGY="MULTI_RECORD",
    )
    assert (settings.transforms, settings.advertised_mb, settings.strategy) == (
        8,
        6,
        "MULTI_RECORD",
    )


def test_a_payload_of_zero_means_any_size_and_is_bounded_all_the_same() -> None:
    settings = read(SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB="0")
    assert (settings.payload_mb, settings.advertised_mb, settings.transforms) == (1024, 0, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "65536"),
        ("SAGEMAKER_BIND_TO_PORT", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6MB"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1025"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "٣"),
        ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "0"),
        ("SAGEMAKER_BATCH_STRATEGY", "single"),
        ("BERTH_PRECISION", "bf16"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: found '{value}', expected"):
        read(**{name: value})
