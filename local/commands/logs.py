"""`berth logs`: show or follow the log of a job or an endpoint."""

from collections.abc import Callable
from typing import Annotated

import typer

from local.client.follow import QUIET_READS, LinePrinter
from local.client.log_streams import LogReader
from local.client.polling import Backoff
from local.client.resources import ENDPOINT, TRAIN, TRANSFORMS, TUNE, ResourceKind, describe, find
from local.client.target import Target
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError
from local.statuses import TERMINAL


@with_common
def logs(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="a training job, transform job or endpoint")],
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="follow until it ends or Ctrl-C")
    ] = False,
    host: Annotated[str | None, typer.Option(help="only this host's lines, such as algo-2")] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=1, max=10_000, help="only the last lines")
    ] = None,
) -> None:
    """Show the log of a job or an endpoint; with several hosts, each line starts with its host."""
    target = common.connect(needs_role=False)
    client = target.client("sagemaker")
    if describe(client, TUNE, name) is not None and describe(client, TRAIN, name) is None:
        raise UserError(
            f"{name}: a tuning job has no log, its training jobs have; berth report {name} "
            "lists them"
        )
    kind, description = find(client, name, (TRAIN, TRANSFORMS, ENDPOINT))[0]
    group, prefix = kind.log(name)
    reader = LogReader(target.client("logs"), group, prefix, host)
    hosts = 1 if host else description.get("ResourceConfig", {}).get("InstanceCount", 1)
    printer = LinePrinter(lambda line: print(line, flush=True))
    if tail is not None:
        printer.show(reader.last(tail), hosts)
        if not follow:
            return
        reader.read()  # skip what is already there
    if follow:
        _follow(reader, printer, hosts, _is_over(target, kind, name))
    else:
        while lines := reader.read():
            printer.show(lines, hosts)


def _follow(reader: LogReader, printer: LinePrinter, hosts: int, over: Callable[[], bool]) -> None:
    """Print lines until the job is over and its last lines have arrived."""
    backoff, quiet = Backoff(), 0
    while quiet < QUIET_READS:
        ended = over()
        lines = reader.read()
        printer.show(lines, hosts)
        quiet = quiet + 1 if ended and not lines else 0
        backoff.wait(happened=ended or bool(lines))


def _is_over(target: Target, kind: ResourceKind, name: str) -> Callable[[], bool]:
    client = target.client("sagemaker")
    ends = ("Failed",) if kind is ENDPOINT else TERMINAL

    def over() -> bool:
        description = describe(client, kind, name)
        return description is None or description[kind.status] in ends

    return over
