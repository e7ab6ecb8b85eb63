"""Generic Create, Describe, Update, Stop and Delete operations."""

from collections.abc import Callable
from dataclasses import dataclass

from local.emulator.api.operations.resources import Resource
from local.emulator.api.serializer import Response
from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.store import Exists, Record

Validate = Callable[[Request, Context], None]
"""Raises the ServiceError with which AWS rejects a request."""


@dataclass(frozen=True)
class Create:
    """Creates a resource, whose name must be free; the response is its ARN."""

    resource: Resource
    validate: Validate
    handle: Callable[[Services, Request], Record]

    def __call__(self, services: Services, request: Request) -> Response:
        """Handle a request."""
        self.resource.check_free(services, request)
        self.validate(request, services)
        try:
            record = self.handle(services, request)
        except Exists:  # a concurrent request created it
            raise self.resource.taken(services, request) from None
        return {f"{self.resource.prefix}Arn": record.arn}


@dataclass(frozen=True)
class Describe:
    """Describes a resource."""

    resource: Resource

    def __call__(self, services: Services, request: Request) -> Response:
        """Handle a request."""
        return self.resource.describe(services, self.resource.find(services, request))


@dataclass(frozen=True)
class Update:
    """Updates a resource; the response is its ARN."""

    resource: Resource
    handle: Callable[[Services, Record, Request], object]
    validate: Validate | None = None

    def __call__(self, services: Services, request: Request) -> Response:
        """Handle a request."""
        record = self.resource.find(services, request)
        if self.validate is not None:
            self.validate(request, services)
        self.handle(services, record, request)
        return {f"{self.resource.prefix}Arn": record.arn}


@dataclass(frozen=True)
class Act:
    """Stops or deletes a resource; the response is empty."""

    resource: Resource
    handle: Callable[[Services, Record], None]

    def __call__(self, services: Services, request: Request) -> Response:
        """Handle a request."""
        self.handle(services, self.resource.find(services, request))
        return None
