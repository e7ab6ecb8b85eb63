"""The options every command shares.

    @with_common
    def train(common: CommonOptions, data: Annotated[str, typer.Argument()]) -> None:
        target = common.connect()

`with_common` gives a command --where, --image-uri, --role, --bucket, --region, --tags, --plan and
--executor, and hands them over as its first argument.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

import typer

from local.client.target import Target, connect
from local.client.target import Where as WhereName
from local.emulator.executors import ExecutorName
from local.errors import UserError

PANEL = "Where and as whom"
PRECISION = "BERTH_PRECISION"
"""The variable that the image reads what a model is served in from."""

Where = Annotated[
    WhereName,
    typer.Option(
        envvar="BERTH_WHERE", help="the SageMaker of this machine, or AWS", rich_help_panel=PANEL
    ),
]
ImageUri = Annotated[
    str | None,
    typer.Option(
        help="the image (default: berth:latest, on AWS of the account's ECR)", rich_help_panel=PANEL
    ),
]
Role = Annotated[
    str | None,
    typer.Option(
        envvar="BERTH_ROLE",
        help="ARN or name of the IAM role jobs assume; needed on AWS",
        rich_help_panel=PANEL,
    ),
]
Bucket = Annotated[
    str | None,
    typer.Option(
        envvar="BERTH_BUCKET",
        help="S3 bucket of data and results (default: berth-REGION-ACCOUNT)",
        rich_help_panel=PANEL,
    ),
]
Region = Annotated[str | None, typer.Option(help="AWS region", rich_help_panel=PANEL)]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tags", metavar="KEY=VALUE", help="a tag, repeatable", rich_help_panel=PANEL),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="print the requests, the permissions and the highest cost; create nothing",
        rich_help_panel=PANEL,
    ),
]
Executor = Annotated[
    ExecutorName,
    typer.Option(
        envvar="BERTH_EXECUTOR",
        help="what runs the image, when the local SageMaker has to be started",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """The shared options of one call."""

    where: Where = "local"
    image_uri: ImageUri = None
    role: Role = None
    bucket: Bucket = None
    region: Region = None
    tags: Tags = None
    plan: Plan = False
    executor: Executor = "auto"

    def connect(self, *, needs_role: bool = True) -> Target:
        """The target they name; see `local.client.target.connect`.

        `needs_role=False` is for commands whose requests carry no role.
        """
        options = vars(self) | {"tags": pairs(self.tags or (), "--tags")}
        return connect(**options, needs_role=needs_role)


def with_options(
    *groups: Callable[..., Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of some groups.

    A group is a dataclass whose fields are options, or a function whose keyword-only parameters
    are; what it makes becomes the command's argument: the first group's the first, and so on.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[len(groups) :]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        shared = [list(inspect.signature(group).parameters.values()) for group in groups]

        @functools.wraps(command)
        def called(**values: Any) -> None:
            made = [
                group(**{parameter.name: values.pop(parameter.name) for parameter in parameters})
                for group, parameters in zip(groups, shared, strict=True)
            ]
            command(*made, **values)

        every = [*own, *(parameter for parameters in shared for parameter in parameters)]
        hints = get_type_hints(command, include_extras=True)
        called.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: hints.get(p.name, p.annotation) for p in every}
        del called.__wrapped__
        return called

    return decorate


with_common = with_options(CommonOptions)


Precision = Literal["auto", "float32", "bfloat16", "int8", "fastest"]
"""What a model is served in; `auto` is float32 on a CPU, float16 on a GPU."""


def serving_environment(env: "list[str] | None", precision: Precision | None) -> dict[str, str]:
    """The container's environment from `--env` and `--precision`.

    Raises:
        UserError: an `--env` is none, or names another precision.
    """
    found = pairs(env or (), "--env")
    if precision is None:
        return found
    if found.get(PRECISION, precision) != precision:
        raise UserError(
            f"--precision: found {precision}, but --env {PRECISION}={found[PRECISION]}; leave one "
            "of them out"
        )
    return found | {PRECISION: precision}


def pairs(given: "list[str] | tuple[str, ...]", option: str) -> dict[str, str]:
    """`name=value` arguments as a dict.

    Raises:
        UserError: an argument has no `=`, no name, or a name a second time.
    """
    found: dict[str, str] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UserError(f"{option}: found {argument!r}, expected name=value")
        if name in found:
            raise UserError(f"{option}: {name!r} is given twice")
        found[name] = value.strip()
    return found
