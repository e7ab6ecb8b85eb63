import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from local.emulator.api.serializer import InvalidResponse, serialize
from local.emulator.shapes.service_model import operation_model

SHAPE = operation_model("DescribeTrainingJob").output_shape


def parsed(body: bytes) -> dict[str, Any]:
    answer = {"body": body, "headers": {}, "status_code": 200}
    result: dict[str, Any] = create_parser("json").parse(answer, SHAPE)
    del result["ResponseMetadata"]
    return result


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "TrainingJobName": st.text(),
            "HyperParameters": st.dictionaries(st.text(), st.text()),
            "TrainingTimeInSeconds": st.integers(),
            "EnableManagedSpotTraining": st.booleans(),
            "CreationTime": st.integers(0, 4_000_000_000_000).map(
                lambda ms: datetime.fromtimestamp(ms // 1000, UTC).replace(
                    microsecond=ms % 1000 * 1000
                )
            ),
            "FinalMetricDataList": st.lists(
                st.fixed_dictionaries({"Value": st.floats(allow_nan=False)})
            ),
        },
    )
)
def test_botocore_parses_the_response(answer: dict[str, Any]) -> None:
    assert parsed(serialize(SHAPE, answer)) == answer


def test_none_is_left_out() -> None:
    assert serialize(SHAPE, {"FailureReason": None}) == b"{}"
    assert serialize(SHAPE, None) == b"{}"
    assert serialize(None, None) == b""


def test_a_time_is_in_seconds_to_the_millisecond() -> None:
    moment = datetime(2025, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    assert json.loads(serialize(SHAPE, {"CreationTime": moment})) == {
        "CreationTime": 1735689600.123
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Colour": "red"}, "has no member Colour"),
        ({"ModelArtifacts": {"Url": "x"}}, r"\.ModelArtifacts has no member Url"),
        ({"TrainingJobName": 3}, r"\.TrainingJobName is a string, not 3"),
        ({"CreationTime": 12.5}, r"\.CreationTime is a timestamp, not 12.5"),
        ({"HyperParameters": {"a": 1}}, r"\.HyperParameters\[a\] is a string, not 1"),
        ({"FinalMetricDataList": [{}, {"X": 1}]}, r"\.FinalMetricDataList\[1\] has no member X"),
        ({"FinalMetricDataList": {}}, "is a list, not"),
    ],
)
def test_another_shape_is_a_bug(answer: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidResponse, match=expected):
        serialize(SHAPE, answer)
