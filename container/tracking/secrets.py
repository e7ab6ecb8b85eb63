"""Hides secrets in a tracking server's address and in errors that repeat it."""

import os
from urllib.parse import quote, unquote, urlsplit, urlunsplit

SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""Environment variables with credentials of MLflow's client."""
HIDDEN = "***"


def shown_uri(uri: str) -> str:
    """An address without its user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return HIDDEN
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(text: str, uri: str) -> str:
    """Hide the address's user, password and query and the values of `SECRET_VARIABLES`."""
    secrets = [os.environ.get(name, "") for name in SECRET_VARIABLES]
    try:
        parts = urlsplit(uri)
    except ValueError:
        secrets.append(uri)
    else:
        userinfo, at, _ = parts.netloc.rpartition("@")
        if at:
            secrets += [userinfo, userinfo.partition(":")[2]]
        secrets.append(parts.query)
    forms = {form for each in secrets for form in (each, quote(each, safe=""), unquote(each))}
    for form in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text
