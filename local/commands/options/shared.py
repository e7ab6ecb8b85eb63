"""The options that every command has.

    @with_common
    def train(common: CommonOptions, data: Annotated[str, typer.Argument()]) -> None:
        target = common.connect()

`with_common` adds --where, --image-uri, --role, --bucket, --region, --tags, --plan and --executor
to a command and passes them as its first argument.
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

PANEL = "Target"
PRECISION = "BERTH_PRECISION"
"""The image's environment variable for the precision of inference."""

Where = Annotated[
    WhereName,
    typer.Option(envvar="BERTH_WHERE", help="the local SageMaker or AWS", rich_help_panel=PANEL),
]
ImageUri = Annotated[
    str | None,
    typer.Option(
        help="the image (default: berth:latest, on AWS from the account's ECR)",
        rich_help_panel=PANEL,
    ),
]
Role = Annotated[
    str | None,
    typer.Option(
        envvar="BERTH_ROLE",
        help="ARN or name of the IAM role that jobs assume; required on AWS",
        rich_help_panel=PANEL,
    ),
]
Bucket = Annotated[
    str | None,
    typer.Option(
        envvar="BERTH_BUCKET",
        help="S3 bucket for data and results (default: berth-REGION-ACCOUNT)",
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
        help="print the requests, the permissions and the maximum cost; create nothing",
        rich_help_panel=PANEL,
    ),
]
Executor = Annotated[
    ExecutorName,
    typer.Option(
        envvar="BERTH_EXECUTOR",
        help="how a newly started local SageMaker runs the image",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """The parsed options that every command has."""

    where: Where = "local"
    image_uri: ImageUri = None
    role: Role = None
    bucket: Bucket = None
    region: Region = None
    tags: Tags = None
    plan: Plan = False
    executor: Executor = "auto"

    def connect(self, *, needs_role: bool = True) -> Target:
        """The target of the command; see `local.client.target.connect`.

        Pass `needs_role=False` if none of the command's requests contains a role.
        """
        options = vars(self) | {"tags": pairs(self.tags or (), "--tags")}
        return connect(**options, needs_role=needs_role)


def with_options(
    *groups: Callable[..., Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that adds groups of options to a command.

    A group is a dataclass whose fields are options, or a function whose keyword-only parameters
    are. Its instance or return value is passed to the command, in the order of `groups`.
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
"""The precision of inference; `auto` is float32 on a CPU and float16 on a GPU."""


def serving_environment(env: "list[str] | None", precision: Precision | None) -> dict[str, str]:
    """The container's environment from `--env` and `--precision`.

    Raises:
        UserError: an `--env` is not name=value, or sets another precision.
    """
    found = pairs(env or (), "--env")
    if precision is None:
        return found
    if found.get(PRECISION, precision) != precision:
        raise UserError(
            f"--precision: found {precision}, but --env {PRECISION}={found[PRECISION]}; omit one"
        )
    return found | {PRECISION: precision}


def pairs(given: "list[str] | tuple[str, ...]", option: str) -> dict[str, str]:
    """`name=value` arguments as a dict.

    Raises:
        UserError: an argument has no `=` or no name, or two have the same name.
    """
    found: dict[str, str] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UserError(f"{option}: found {argument!r}, expected name=value")
        if name in found:
            raise UserError(f"{option}: found {name!r} twice, expected it once")
        found[name] = value.strip()
    return found
