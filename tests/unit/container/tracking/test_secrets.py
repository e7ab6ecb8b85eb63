import pytest

from container.tracking.secrets import shown_uri, without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        (
            "https://bob:pa%40ss@tracking.example/mlflow?token=abc",
            "https://tracking.example/mlflow",
        ),
        ("postgresql://bob:secret@db/mlflow", "postgresql://db/mlflow"),
        ("/srv/mlruns", "/srv/mlruns"),
        (
            "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/mine",
            "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/mine",
        ),
        ("http://[bob:secret", "***"),
    ],
)
def test_an_address_is_shown_without_credentials(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


def test_every_form_of_a_secret_is_removed_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "to/ken")
    uri = "https://bob:pa%40ss@tracking.example/?key=value"
    text = "bob:pa%40ss, pa@ss and to%2Fken at https://bob:pa%40ss@tracking.example/?key=value"
    hidden = without_secrets(text, uri)
    assert hidden == "***, *** and *** at https://***@tracking.example/?***"
    assert without_secrets("http://[bob:secret", "http://[bob:secret") == "***"
