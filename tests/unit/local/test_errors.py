import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoRegionError

from container.errors import DataError
from local.errors import UserError, code, one_line, print_error

REFUSED = ClientError(
    {"Error": {"Code": "ResourceInUse", "Message": "the name\nis taken"}}, "CreateTrainingJob"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a line"), "a line"),
        (DataError("no images"), "no images"),
        (REFUSED, "CreateTrainingJob: ResourceInUse: the name is taken"),
        (
            EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
            "nobody answers at http://127.0.0.1:1; is it running (berth up)?",
        ),
        (NoRegionError(), "You must specify a region."),
        (KeyError("x"), None),
    ],
)
def test_an_error_in_one_line(error: Exception, line: str | None) -> None:
    assert one_line(error) == line


def test_the_code_of_an_error() -> None:
    assert code(REFUSED) == "ResourceInUse"
    assert code(ValueError()) == ""


def test_an_error_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "s3://bucket/[bold]x[/bold]: :smile: " + "long " * 60
    print_error(line)
    captured = capsys.readouterr()
    assert captured.err.rstrip("\n") == line.rstrip("\n")
    assert captured.out == ""
