"""What the operations have in common: finding a resource, and AWS's words when there is none."""

import shutil
from collections.abc import Callable
from typing import Any

from local.emulator.context import Context
from local.emulator.errors import ServiceError, in_use, invalid, not_found
from local.emulator.services import Services
from local.emulator.store import Kind, Missing, Record

Request = dict[str, Any]
Answer = dict[str, Any] | None
Operation = Callable[[Services, Request], Answer]

MODEL_WORDS = {
    Kind.MODEL: "model",
    Kind.ENDPOINT_CONFIG: "endpoint configuration",
    Kind.ENDPOINT: "endpoint",
}
"""What AWS's messages call the things a model is served with."""

OVER = ("Completed", "Failed", "Stopped")
"""A job's status once nothing will happen to it any more."""


def find(context: Context, kind: Kind, name: str) -> Record:
    """The resource.

    Raises:
        ServiceError: there is none of that name; code and words are AWS's, which differ by kind
            (a training job's is a ValidationException although the API's model names another).
    """
    try:
        return context.store.get(kind, name)
    except Missing:
        raise missing(context, kind, name) from None


def missing(context: Context, kind: Kind, name: str) -> ServiceError:
    """AWS's error for a resource that is not there."""
    if kind in MODEL_WORDS:
        return invalid(f'Could not find {MODEL_WORDS[kind]} "{context.arn(kind, name)}".')
    if kind is Kind.TRANSFORM_JOB:
        return invalid(f"Could not find requested job with name: {name}.")
    if kind is Kind.TRAINING_JOB:
        return invalid("Requested resource not found.")
    return not_found(f"Requested resource not found: hyperparameter tuning job {name}.")


def taken(context: Context, kind: Kind, name: str) -> ServiceError:
    """AWS's error for a name that is not free."""
    if kind in MODEL_WORDS:
        return invalid(
            f'Cannot create already existing {MODEL_WORDS[kind]} "{context.arn(kind, name)}".'
        )
    if kind is Kind.TRAINING_JOB:
        return in_use(
            "Training job names must be unique within an AWS account and region, and a training "
            f"job with this name already exists ({context.arn(kind, name)})"
        )
    what = "transform job" if kind is Kind.TRANSFORM_JOB else "hyperparameter tuning job"
    return in_use(f"A {what} with the name {name} already exists. Choose a different name.")


def check_free(context: Context, kind: Kind, name: str) -> None:
    """Make sure nothing has the name yet.

    Raises:
        ServiceError: something has.
    """
    try:
        context.store.get(kind, name)
    except Missing:
        return
    raise taken(context, kind, name)


def delete_job(context: Context, kind: Kind, name: str, status: str) -> None:
    """Forget a job that has ended, and the folder it ran in; its name is free again.

    Raises:
        ServiceError: it has not ended (`ResourceInUse`), or is not there.
    """
    job = find(context, kind, name)
    if job.body[status] not in OVER:
        raise in_use(
            f"{job.arn} is {job.body[status]}; only a job that is {', '.join(OVER[:-1])} or "
            f"{OVER[-1]} can be deleted."
        )
    context.store.delete(kind, name)
    shutil.rmtree(context.home.job(kind, name), ignore_errors=True)
