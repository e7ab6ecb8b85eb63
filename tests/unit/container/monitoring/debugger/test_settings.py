import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.debugger.settings import (
    COLLECTIONS,
    HookSettings,
    HookSettingsError,
    is_wanted,
)
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import parse_rules


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USE_SMDEBUG", "SMDEBUG_CONFIG_FILE_PATH", "TENSORBOARD_CONFIG_FILE_PATH"):
        monkeypatch.delenv(name, raising=False)


def write(base: Path, name: str, value: Any) -> Path:
    path = base / "input" / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def hook_file(base: Path, value: Any) -> Path:
    return write(base, "debughookconfig.json", value)


def parameters(settings: HookSettings) -> dict[str, Mapping[str, Any]]:
    return {
        each["CollectionName"]: each["CollectionParameters"]
        for each in settings.configuration["CollectionConfigurations"]
    }


def test_hyperparameters_name_collections(tmp_path: Path) -> None:
    settings = HookSettings.read(
        tmp_path, save_interval=100, collections=("weights", "relu_output", "labels")
    )
    assert settings.source == "hyperparameters"
    assert settings.path == tmp_path / "output" / "tensors"
    assert settings.tensorboard is None
    assert settings.configuration["HookParameters"] == {"save_interval": "100"}
    assert parameters(settings) == {
        "losses": {"eval.save_interval": "2"},
        "weights": {},
        "relu_output": {"include_regex": ".*relu_output"},
        "labels": {"include_regex": "^labels$"},
    }


def test_the_file_for_the_sdks_default_configuration_is_read(tmp_path: Path) -> None:
    hook_file(
        tmp_path,
        {
            "S3OutputPath": "s3://bucket/prefix",
            "LocalPath": "/opt/ml/output/tensors",
            "HookParameters": None,
            "CollectionConfigurations": [],
        },
    )
    settings = HookSettings.read(tmp_path, save_interval=500, collections=("weights",))
    assert settings.path == tmp_path / "output" / "tensors"
    assert settings.configuration["HookParameters"] == {"save_interval": "500"}
    assert parameters(settings) == {}


def test_the_file_sets_collections_and_steps(tmp_path: Path) -> None:
    path = hook_file(
        tmp_path,
        {
            "LocalPath": "/somewhere/else",
            "HookParameters": {
                "train.save_interval": "50",
                "eval.save_interval": 1,
                "save_steps": "1,2, 3",
                "include_workers": "all",
            },
            "CollectionConfigurations": [
                {"CollectionName": "gradients", "CollectionParameters": {"save_interval": "7"}},
                {
                    "CollectionName": "mine",
                    "CollectionParameters": {
                        "include_regex": "conv.*_output,relu",
                        "reductions": "min,abs_max,l2_norm",
                        "save_raw_tensor": "True",
                        "save_histogram": "False",
                    },
                },
                {"CollectionName": "all", "CollectionParameters": None},
            ],
        },
    )
    settings = HookSettings.read(tmp_path, save_interval=500, collections=("weights",))
    assert settings.source == str(path)
    assert settings.path == Path("/somewhere/else")
    assert settings.all_ranks
    assert settings.configuration["HookParameters"] == {
        "train.save_interval": "50",
        "eval.save_interval": "1",
        "save_steps": "1,2, 3",
        "include_workers": "all",
    }
    assert parameters(settings) == {
        "gradients": {"save_interval": "7"},
        "mine": {
            "include_regex": "conv.*_output,relu",
            "reductions": "min,abs_max,l2_norm",
            "save_raw_tensor": True,
            "save_histogram": "false",
        },
        "all": {"include_regex": ".*"},
    }


def test_save_shape_keeps_the_tensor(tmp_path: Path) -> None:
    hook_file(
        tmp_path,
        {
            "CollectionConfigurations": [
                {"CollectionName": "weights", "CollectionParameters": {"save_shape": "true"}}
            ]
        },
    )
    assert parameters(HookSettings.read(tmp_path))["weights"] == {
        "save_shape": True,
        "reductions": "",
        "save_raw_tensor": True,
    }


def test_a_variable_may_name_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook_file(tmp_path, {"CollectionConfigurations": [{"CollectionName": "weights"}]})
    other = tmp_path / "other.json"
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(other))
    with pytest.raises(HookSettingsError, match=r"other\.json: .*does not exist"):
        HookSettings.read(tmp_path)
    other.write_text(json.dumps({"CollectionConfigurations": [{"CollectionName": "biases"}]}))
    settings = HookSettings.read(tmp_path)
    assert settings.source == str(other)
    assert parameters(settings) == {"biases": {}}


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_use_smdebug_disables_the_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    assert not is_wanted(tmp_path, debug=None)
    assert is_wanted(tmp_path, debug=True)
    hook_file(tmp_path, {})
    assert is_wanted(tmp_path, debug=None)
    assert not is_wanted(tmp_path, debug=False)
    monkeypatch.setenv("USE_SMDEBUG", word)
    assert not is_wanted(tmp_path, debug=True)


def test_the_tensorboard_folder(tmp_path: Path) -> None:
    default = tmp_path / "output" / "tensorboard"
    assert HookSettings.read(tmp_path, tensorboard=True).tensorboard == default
    write(tmp_path, "tensorboardoutputconfig.json", {"LocalPath": "/opt/ml/output/tb"})
    assert HookSettings.read(tmp_path).tensorboard == tmp_path / "output" / "tb"
    write(tmp_path, "tensorboardoutputconfig.json", {"S3OutputPath": "s3://bucket"})
    assert HookSettings.read(tmp_path).tensorboard == default
    write(tmp_path, "tensorboardoutputconfig.json", {"LocalPath": 3})
    with pytest.raises(
        HookSettingsError, match=r"tensorboardoutputconfig\.json: LocalPath: .*found 3"
    ):
        HookSettings.read(tmp_path)


def test_hook_parameters_may_enable_tensorboard(tmp_path: Path) -> None:
    hook_file(tmp_path, {"HookParameters": {"export_tensorboard": "True"}})
    assert HookSettings.read(tmp_path).tensorboard == tmp_path / "output" / "tensorboard"
    hook_file(tmp_path, {"HookParameters": {"tensorboard_dir": "/opt/ml/output/summaries"}})
    assert HookSettings.read(tmp_path).tensorboard == tmp_path / "output" / "summaries"


def test_rules_add_the_collections_they_read(tmp_path: Path) -> None:
    rules = parse_rules(DEBUG_RULES, ["DeadRelu", "Confusion", "PoorWeightInitialization"])
    settings = HookSettings.read(tmp_path, collections=(), rules=rules)
    assert list(parameters(settings)) == [
        "losses",
        "relu_output",
        "labels",
        "predictions",
        "relu_input",
        "weights",
        "gradients",
    ]
    assert parameters(settings)["relu_input"] == {"include_regex": ".*relu_input"}


def test_rules_add_collections_to_those_of_the_file(tmp_path: Path) -> None:
    given = {"include_regex": "layer4.*relu_output", "save_interval": "9"}
    hook_file(
        tmp_path,
        {
            "CollectionConfigurations": [
                {"CollectionName": "relu_output", "CollectionParameters": given}
            ]
        },
    )
    rules = parse_rules(DEBUG_RULES, ["DeadRelu", "VanishingGradient"])
    assert parameters(HookSettings.read(tmp_path, rules=rules)) == {
        "relu_output": given,
        "gradients": {},
    }


def test_a_rules_own_regex_and_collections_are_kept(tmp_path: Path) -> None:
    rules = parse_rules(
        DEBUG_RULES,
        ["AllZero", "ExplodingTensor"],
        {"AllZero_collection_names": "biases, labels", "ExplodingTensor_tensor_regex": "fc_output"},
    )
    found = parameters(HookSettings.read(tmp_path, collections=(), rules=rules))
    assert found["ExplodingTensor_tensor_regex"] == {"include_regex": "fc_output"}
    assert {"biases", "labels"} <= set(found)


def test_validation_losses_are_saved_often_if_a_rule_reads_them(tmp_path: Path) -> None:
    hook_file(tmp_path, {"HookParameters": {"save_interval": "100"}})
    rules = parse_rules(DEBUG_RULES, ["Overfit"])
    assert "losses" not in parameters(HookSettings.read(tmp_path))
    assert parameters(HookSettings.read(tmp_path, rules=rules))["losses"] == {
        "eval.save_interval": "2"
    }
    hook_file(tmp_path, {"HookParameters": {"eval.save_interval": "10"}})
    assert parameters(HookSettings.read(tmp_path, rules=rules))["losses"] == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "expected a JSON object"),
        ([], "expected a JSON object, found list"),
        ({"LocalPath": 3}, "LocalPath: expected a path, found 3"),
        ({"HookParameters": "x"}, 'HookParameters: expected an object, found "x"'),
        (
            {"HookParameters": {"save_interval": "ten"}},
            'HookParameters.save_interval: expected a whole number of steps from 1, found "ten"',
        ),
        ({"HookParameters": {"save_interval": 0}}, "save_interval: expected .*, found 0"),
        ({"HookParameters": {"eval.save_interval": "-1"}}, "eval.save_interval: expected"),
        ({"HookParameters": {"train.save_steps": "1;2"}}, "train.save_steps: expected whole"),
        ({"HookParameters": {"start_step": 1.5}}, "start_step: expected .*, found 1.5"),
        ({"HookParameters": {"save_all": "maybe"}}, "save_all: expected true or false"),
        ({"HookParameters": {"include_workers": "two"}}, "include_workers: expected one or all"),
        ({"HookParameters": {"reductions": "median"}}, "reductions: expected some of min, max"),
        ({"HookParameters": {"include_regex": "("}}, "include_regex: expected regular"),
        ({"HookParameters": {"include_regex": ["a"]}}, r'expected a string, found \["a"\]'),
        ({"HookParameters": {"save_intervall": "5"}}, "unknown 'save_intervall': did you mean 's"),
        ({"CollectionConfigurations": {}}, "CollectionConfigurations: expected a list"),
        ({"CollectionConfigurations": ["x"]}, r"CollectionConfigurations\[0\]: expected an object"),
        (
            {"CollectionConfigurations": [{"CollectionName": "x", "CollectionParameters": 1}]},
            r"CollectionConfigurations\[0\].CollectionParameters: expected an object, found 1",
        ),
        (
            {"CollectionConfigurations": [{"CollectionName": "mine"}]},
            r"CollectionConfigurations\[0\] \('mine'\): expected an include_regex",
        ),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(tmp_path: Path, value: Any, words: str) -> None:
    path = hook_file(tmp_path, value)
    with pytest.raises(HookSettingsError, match=words) as caught:
        HookSettings.read(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_collection_in_a_hyperparameter(tmp_path: Path) -> None:
    with pytest.raises(
        HookSettingsError, match=r"hyperparameters: collections: .*'weights'.*'wieghts'"
    ):
        HookSettings.read(tmp_path, collections=("wieghts",))


def test_every_collection_a_rule_reads_is_known() -> None:
    read = {name for spec in DEBUG_RULES.values() for name in spec.collections}
    assert read <= set(COLLECTIONS)
