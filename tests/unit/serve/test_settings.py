from pathlib import Path

import pytest

from serve import settings as settings_module
from serve.settings import ServerSettingsError, Settings, in_container


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def test_defaults_are_those_of_a_real_time_endpoint() -> None:
    settings = read()
    assert settings.model_dir == Path("/opt/ml/model")
    assert (settings.port, settings.payload_mb, settings.strategy) == (8080, 25, "SINGLE_RECORD")
    assert settings.payload_bytes == 25 * 1024 * 1024
    assert settings.transforms == settings.cpus + 1


def test_sagemaker_sets_the_port_and_the_base_directory() -> None:
    settings = read(SAGEMAKER_BIND_TO_PORT="9001", SAGEMAKER_BASE_DIR="/srv/ml")
    assert settings.port == 9001
    assert settings.model_dir == Path("/srv/ml/model")


@pytest.mark.parametrize("inside", [True, False])
def test_a_container_listens_on_all_addresses_and_a_process_on_loopback(
    monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(settings_module, "in_container", lambda _: inside)
    assert read().host == ("0.0.0.0" if inside else "127.0.0.1")
    assert read(SAGEMAKER_BIND_TO_PORT="9000").host == read().host
    assert read(BERTH_BIND_HOST="127.0.0.2").host == "127.0.0.2"
    assert read(BERTH_BIND_HOST="0.0.0.0").host == "0.0.0.0"
    assert read(BERTH_BIND_HOST="::1").host == read(BERTH_BIND_HOST="[::1]").host == "[::1]"
    assert read(BERTH_BIND_HOST="localhost").host == "localhost"


@pytest.mark.parametrize(
    ("files", "environ", "inside"),
    [
        ({}, {}, False),
        ({"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n"}, {}, False),
        ({"proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, False),
        ({"proc/self/cgroup": "0::/system.slice/containerd.service\n"}, {}, False),
        ({".dockerenv": ""}, {}, True),
        ({"run/.containerenv": ""}, {}, True),
        ({"proc/self/cgroup": "12:cpu:/docker/0123abc\n0::/\n"}, {}, True),
        ({"proc/self/cgroup": "0::/kubepods/besteffort/pod1/0123abc\n"}, {}, True),
        ({"proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n"}, {}, True),
        ({"proc/self/cgroup": "4:cpu:/ecs/task/0123abc\n"}, {}, True),
        ({"proc/self/cgroup": "0::/machine.slice/libpod-0123.scope/container\n"}, {}, True),
        ({"proc/self/cgroup": "0::/system.slice/docker-0123abc.scope\n"}, {}, True),
        ({}, {"container": "podman"}, True),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
    ],
)
def test_a_container_is_detected_by_files_and_variables(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], inside: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert in_container(environ, tmp_path) is inside


def test_the_precision_defaults_to_auto() -> None:
    assert read().precision == "auto"
    for named in ("float32", "bfloat16", "int8", "fastest"):
        assert read(BERTH_PRECISION=named).precision == named


def test_batch_transform_accepts_larger_records_within_sagemakers_total_limit() -> None:
    settings = read(SAGEMAKER_BATCH="true")
    assert settings.payload_mb == 100
    assert settings.transforms * settings.advertised_mb <= 100


@pytest.mark.parametrize("payload", ["1", "30", "60", "100"])
def test_transforms_keep_to_the_total_limit_with_a_given_payload(payload: str) -> None:
    settings = read(SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB=payload)
    assert settings.payload_mb == settings.advertised_mb == int(payload)
    assert settings.transforms * settings.advertised_mb <= 100


def test_a_payload_set_by_the_user_is_advertised() -> None:
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


def test_a_payload_of_zero_means_any_size_up_to_a_limit() -> None:
    settings = read(SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB="0")
    assert (settings.payload_mb, settings.advertised_mb, settings.transforms) == (1024, 0, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "65536"),
        ("SAGEMAKER_BIND_TO_PORT", "-1"),
        ("SAGEMAKER_BIND_TO_PORT", "00000008080000"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6MB"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1025"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "٣"),
        ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "0"),
        ("SAGEMAKER_BATCH_STRATEGY", "single"),
        ("BERTH_BIND_HOST", "http://0.0.0.0"),
        ("BERTH_BIND_HOST", "127.0.0.1:80"),
        ("BERTH_PRECISION", "bf16"),
        ("BERTH_LOG_FORMAT", "yaml"),
    ],
)
def test_an_invalid_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ServerSettingsError, match=f"^{name}: found '{value}', expected"):
        read(**{name: value})


def test_a_multi_model_endpoint_has_a_folder_of_models() -> None:
    assert read().models_dir is None
    assert read(SAGEMAKER_MULTI_MODEL="false").models_dir is None
    multi = read(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_BASE_DIR="/base")
    assert (multi.models_dir, multi.max_models) == (Path("/base/models"), None)
    assert read(BERTH_MAX_MODELS="3").max_models == 3
    with pytest.raises(ServerSettingsError, match="BERTH_MAX_MODELS: found '0'"):
        read(BERTH_MAX_MODELS="0")
