"""A request to a service served by moto, in a form that can be stored and replayed."""

import base64
import io
import json
import random
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

from botocore.parsers import BaseCBORParser
from werkzeug.test import EnvironBuilder

HEADERS = ("HTTP_X_AMZ_TARGET", "HTTP_SMITHY", "HTTP_HOST", "CONTENT_TYPE")
"""Prefixes, in WSGI's spelling, of the headers that are needed to replay a request."""

Environ = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request, without its credentials.

    Attributes:
        service: the service's signing name.
        region: of the credential scope.
        method: HTTP method.
        target: path and query.
        headers: the headers needed to replay it, by WSGI name.
        body: the body.
        time: when it was first sent, UTC seconds.
        seed: seed of the random names in the response.
    """

    service: str
    region: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    time: float = field(default_factory=time.time)
    seed: int = field(default_factory=lambda: random.SystemRandom().getrandbits(64))

    @classmethod
    def of(cls, environ: Environ, service: str, region: str, body: bytes) -> "Request":
        """Build a request from a WSGI environment whose body has been read."""
        headers = {name: str(value) for name, value in environ.items() if name.startswith(HEADERS)}
        target = environ.get("RAW_URI") or environ["PATH_INFO"]
        return cls(service, region, environ["REQUEST_METHOD"], target, headers, body)

    @cached_property
    def operation(self) -> str:
        """The operation's name, in AWS's JSON, CBOR and query protocols."""
        if target := self.headers.get("HTTP_X_AMZ_TARGET"):
            return target.rpartition(".")[2]
        path, _, query = self.target.partition("?")
        if "/operation/" in path:
            return path.rpartition("/")[2]
        form = parse_qs(self.body.decode(errors="replace")) or parse_qs(query)
        return form.get("Action", ["unknown"])[0]

    @cached_property
    def members(self) -> dict[str, Any]:
        """The request's members; those of a form have names such as `Tags.member.1.Key`."""
        kind = self.headers.get("CONTENT_TYPE", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        try:
            if "cbor" in kind:
                stream = io.BufferedReader(io.BytesIO(self.body))
                members = BaseCBORParser().parse_data_item(stream)
            else:
                members = json.loads(self.body)
        except ValueError:
            return {}
        return members if isinstance(members, dict) else {}

    @classmethod
    def read(cls, text: str) -> "Request":
        """Parse a request in JSON."""
        values = json.loads(text)
        return cls(**values | {"body": base64.b64decode(values["body"])})

    def text(self) -> str:
        """The request in JSON."""
        return json.dumps(asdict(self) | {"body": base64.b64encode(self.body).decode()})

    def environ(self, key_id: str = "local") -> Environ:
        """The WSGI environment, with the service and region for moto in the credential scope."""
        path, _, query = self.target.partition("?")
        builder = EnvironBuilder(path=path, query_string=query, method=self.method, data=self.body)
        environ = builder.get_environ()
        builder.close()
        environ.update(self.headers)
        environ["RAW_URI"] = environ["REQUEST_URI"] = self.target
        environ["HTTP_AUTHORIZATION"] = (
            f"AWS4-HMAC-SHA256 Credential={key_id}/20000101/{self.region}/{self.service}"
            "/aws4_request, SignedHeaders=host, Signature=0"
        )
        return environ
