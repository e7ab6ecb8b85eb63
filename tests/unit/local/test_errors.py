import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoRegionError,
    ProxyConnectionError,
)

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
            "cannot connect to http://127.0.0.1:1; is the local SageMaker running (berth up)?",
        ),
        (
            EndpointConnectionError(endpoint_url="https://sts.eu-west-1.amazonaws.com/"),
            "cannot connect to AWS at https://sts.eu-west-1.amazonaws.com/; check this machine's "
            "network (VPN, proxy) and the name of the region",
        ),
        (
            ConnectTimeoutError(endpoint_url="https://sts.eu-west-1.amazonaws.com/"),
            "cannot connect to AWS at https://sts.eu-west-1.amazonaws.com/; check this machine's "
            "network (VPN, proxy) and the name of the region",
        ),
        (
            ProxyConnectionError(proxy_url="http://me:secret@proxy:3128"),
            "cannot connect to AWS: the proxy proxy (HTTPS_PROXY) does not respond",
        ),
        (NoRegionError(), "You must specify a region."),
        (S3UploadFailedError("Failed to upload a\nto b"), "Failed to upload a to b"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "job/out"), "job/out: Permission denied"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "torch is not installed: install it with: pip install 'berth-vision[image]'",
        ),
        (ModuleNotFoundError("No module named 'a_bug'", name="a_bug"), None),
        (OSError("a bug"), None),
        (KeyError("x"), None),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str | None) -> None:
    assert one_line(error) == line


def test_the_code_of_an_error() -> None:
    assert code(REFUSED) == "ResourceInUse"
    assert code(ValueError()) == ""


def test_an_error_is_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    line = "s3://bucket/[bold]x[/bold]: :smile: " + "long " * 60
    print_error(line)
    captured = capsys.readouterr()
    assert captured.err.rstrip("\n") == line.rstrip("\n")
    assert captured.out == ""
