from types import SimpleNamespace

import pytest

from container.monitoring.debugger.rules.selection import Selection
from container.rules.requests import RuleError

NAMES = ["Net_1.bias", "Net_1.weight", "gradient/Net_1.weight", "input_images", "loss"]
TRIAL = SimpleNamespace(
    collections=lambda: {
        "weights": SimpleNamespace(include_regex=["^(?!gradient).*weight"], tensor_names=set()),
        "listed": SimpleNamespace(include_regex=[], tensor_names={"loss", "gone"}),
    }
)


def chosen(collections: str | None = None, expressions: str | None = None) -> list[str]:
    selection = Selection.read("R", collection_names=collections, tensor_regex=expressions)
    return selection.filter(NAMES, TRIAL)


def test_without_collections_or_regex_all_tensors_are_selected() -> None:
    assert chosen() == NAMES
    assert chosen("", " ") == NAMES


def test_collections_contain_listed_and_matching_tensors() -> None:
    assert chosen("weights") == ["Net_1.weight"]
    assert chosen(" weights , listed ") == ["Net_1.weight", "loss"]


def test_an_expression_is_searched_for_anywhere() -> None:
    assert chosen(None, "weight") == ["Net_1.weight", "gradient/Net_1.weight"]
    assert chosen(None, "^gradient, images$") == ["gradient/Net_1.weight", "input_images"]


def test_collections_and_regex_are_combined_without_duplicates() -> None:
    assert chosen("weights", "Net") == ["Net_1.bias", "Net_1.weight", "gradient/Net_1.weight"]


def test_commas_within_brackets_do_not_separate() -> None:
    assert chosen(None, "s{2,3},w[e,i]{2}(ght|a,b)") == [
        "Net_1.weight",
        "gradient/Net_1.weight",
        "loss",
    ]


def test_an_unknown_collection_is_empty_and_stays_unknown() -> None:
    assert chosen("nothing") == []
    assert "nothing" not in TRIAL.collections()


def test_a_selection_is_described_in_words() -> None:
    selection = Selection.read("R", collection_names="weights", tensor_regex="a,b")
    assert str(selection) == "is in collection 'weights' or matches 'a' or matches 'b'"
    assert str(Selection()) == "is there"


def test_an_invalid_or_missing_expression_is_refused() -> None:
    with pytest.raises(RuleError, match=r"rule R: parameter 'regex': '\(a' is not a regular"):
        Selection.read("R", tensor_regex="(a", regex_parameter="regex")
    with pytest.raises(RuleError, match="one of the parameters 'collection_names' and 'regex' is"):
        Selection.read("R", regex_parameter="regex", required=True)
