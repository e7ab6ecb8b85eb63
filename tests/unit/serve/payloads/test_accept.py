import pytest

from serve.errors import BadRequest
from serve.payloads.accept import negotiate

JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        (" , ", "application/json"),
        (JAVA, "application/json"),
        ("*", "application/json"),
        ("*/*; q=.2", "application/json"),
        ("*/*;q=1.", "application/json"),
        ("*/*;q=high", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ('application/json; charset="utf-8"', "application/json"),
        ("APPLICATION/JSON;Charset=UTF-8", "application/json"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("text/csv;header=present;q=.9, */*;q=.1", "text/csv"),
        ("Text/*", "text/csv"),
        ("application/*", "application/json"),
        ("application/jsonlines;charset=utf-8", "application/jsonlines"),
        ("application/json;Q=0, application/*;q=.5", "application/jsonlines"),
        ("text/csv, */*", "text/csv"),
        ("text/csv, application/json", "application/json"),
        ("text/csv;q=2, application/json;q=.9", "text/csv"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
    ],
)
def test_the_preferred_response_type(accept: str, chosen: str) -> None:
    assert negotiate(accept) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "*/*;q=0", "*;q=.0", "nonsense", "application/jsonx", "text/csv;q=0"]
)
def test_an_unsupported_accept_header_is_refused_with_the_supported_types(accept: str) -> None:
    with pytest.raises(BadRequest, match=r"application/json or text/csv") as refused:
        negotiate(accept)
    assert refused.value.status == 406
