import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.hyperparameters import HyperparameterError, Hyperparameters

GIVEN = {
    "arch": "resnet50",
    "freeze": True,
    "learning_rate": 0.1,
    "head_hidden": [512, 256],
    "epochs": 3,
    "optimizer": "sgd",
}


def sdk(values: Any) -> Any:
    """Encode every value as JSON, as SDK v2 and v3 do."""
    return {key: json.dumps(value) for key, value in values.items()}


def boto3(values: Any) -> Any:
    """Encode values with str, as users of boto3 do."""
    return {key: str(value) for key, value in values.items()} | {"head_hidden": "512,256"}


@pytest.mark.parametrize("encode", [sdk, boto3, dict])
def test_every_encoding_gives_the_same_values(encode: Any) -> None:
    hp = Hyperparameters.parse(encode(GIVEN))
    assert hp == Hyperparameters(**GIVEN)
    assert hp.head_hidden == (512, 256)
    assert hp.freeze is True


def test_defaults_are_pytorchs() -> None:
    hp = Hyperparameters.parse({})
    assert (hp.optimizer, hp.learning_rate, hp.eps, hp.weight_decay) == ("adamw", 1e-3, 1e-8, 1e-2)


@pytest.mark.parametrize("name", ["lr", "learning-rate", "learning_rate", "Learning_Rate"])
def test_spellings_of_a_name(name: str) -> None:
    assert Hyperparameters.parse({name: "0.5"}).learning_rate == 0.5


@pytest.mark.parametrize(
    ("text", "widths"), [("512", (512,)), ("[512, 256]", (512, 256)), ("512, 256", (512, 256)),
                         ("[]", ()), ("", ())],
)  # fmt: skip
def test_head_hidden_in_every_form(text: str, widths: Any) -> None:
    assert Hyperparameters.parse({"head_hidden": text}).head_hidden == widths


def test_a_numeric_path_is_kept_as_text() -> None:
    assert Hyperparameters.parse({"weights": "123"}).weights == "123"


def test_hyperparameters_of_the_toolkit_and_the_tuner_are_ignored() -> None:
    given = {"_tuning_objective_metric": "validation:accuracy", "sagemaker_region": '"x"'}
    assert Hyperparameters.parse(given) == Hyperparameters()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rat": "1"}, "unknown hyperparameter 'learning_rat': did you mean"),
        ({"zzzz": "1"}, "unknown hyperparameter 'zzzz': known are"),
        ({"epochs": "0"}, "'epochs': input should be greater than or equal to 1, found 0"),
        ({"optimizer": "sgdd"}, "'optimizer': input should be 'sgd', 'adam' or 'adamw'"),
        ({"learning_rate": "fast"}, "'learning_rate': input should be a valid number"),
        ({"workers": "2.5"}, "'workers': input should be a valid integer"),
        ({"eps": "nan"}, "'eps': input should be a finite number"),
        ({"dropout": "1"}, "'dropout': input should be less than 1, found 1"),
        ({"head_hidden": "true"}, "'head_hidden': expected widths"),
        ({"lr": "1", "learning_rate": "2"}, "'learning_rate' is given twice"),
        ({"freeze": "maybe"}, "'freeze': input should be a valid boolean"),
        ({"epochs": "true"}, "'epochs': expected another kind of value"),
        ({"learning_rate": "True"}, "'learning_rate': input should be a valid number"),
        ({"workers": True}, "'workers': expected another kind of value"),
        ({"optimizer": "sgd", "momentum": "0", "nesterov": "true"}, "'nesterov': needs a momentum"),
        ({"sagemaker_program": "train.py"}, "'sagemaker_program': found 'train.py'"),
        ({"epochs": "x" * 3000}, "'epochs': input should be a valid integer"),
    ],
)
def test_invalid_values_are_named_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        Hyperparameters.parse(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


ODD = ("[" * 3000, "{" * 3000, "9" * 5000, "\x00", "null", "[]", "{}", "-1")


@pytest.mark.parametrize("name", list(Hyperparameters.model_fields))
def test_unusual_values_are_accepted_or_refused_in_one_short_line(name: Any) -> None:
    lines = []
    for odd in ODD:
        try:
            Hyperparameters.parse({name: odd})
        except HyperparameterError as error:
            lines.append(str(error))
    assert all(name in line or "rule" in line for line in lines)
    assert not any("\n" in line or len(line) > 1000 for line in lines)


@pytest.mark.parametrize("text", ["500", '"500"', '"\\"500\\""', "500.0"])
def test_a_number_within_quotes_is_a_number(text: str) -> None:
    assert Hyperparameters.parse({"profile_interval": text}).profile_interval == 500


def test_all_invalid_values_are_named_at_once() -> None:
    with pytest.raises(HyperparameterError, match=r"epochs.*; .*batch_size"):
        Hyperparameters.parse({"epochs": "0", "batch_size": "x"})


@given(st.floats(min_value=1e-9, max_value=999))
def test_a_tuned_learning_rate_is_parsed_exactly(value: Any) -> None:
    assert Hyperparameters.parse({"lr": str(value)}).learning_rate == value
    assert Hyperparameters.parse({"lr": json.dumps(str(value))}).learning_rate == value
