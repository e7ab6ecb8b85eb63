"""`berth jobs`: list training, tuning and transform jobs and endpoints in one table."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from local.client.console import table_console
from local.client.resources import KINDS, ResourceSummary, newest
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError
from local.results.tuning_trials import format_duration

COLOURS = {
    "Completed": "green",
    "InService": "green",
    "Failed": "red",
    "OutOfService": "red",
    "Stopped": "yellow",
}


@with_common
def jobs(
    common: CommonOptions,
    *,
    kind: Annotated[
        Literal["all", "training", "tuning", "transform", "endpoint"],
        typer.Option(help="only this kind"),
    ] = "all",
    status: Annotated[
        str | None,
        typer.Option(help="only this SageMaker status, such as InProgress or InService"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="most entries")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with times in UTC")] = False,
) -> None:
    """List jobs and endpoints, newest first."""
    client = common.connect(needs_role=False).client("sagemaker")
    kinds = [each for each in KINDS if kind in ("all", each.name)]
    known = {each.name: client.meta.service_model.shape_for(each.status).enum for each in kinds}
    if status is not None and not any(status in statuses for statuses in known.values()):
        expected = ", ".join(sorted({one for statuses in known.values() for one in statuses}))
        raise UserError(f"--status: found {status!r}, expected one of {expected}")
    found: list[ResourceSummary] = []
    for each in kinds:
        if status is None or status in known[each.name]:
            found += newest(client, each, limit, status)
    found = sorted(found, key=lambda entry: entry.created, reverse=True)[:limit]
    if as_json:
        print(json.dumps([_json_value(entry) for entry in found], indent=2))
        return
    _print(found)


def _json_value(entry: ResourceSummary) -> dict[str, str | None]:
    return {
        key: value.astimezone(UTC).isoformat(timespec="seconds")
        if isinstance(value, datetime)
        else value
        for key, value in asdict(entry).items()
    }


def _print(found: list[ResourceSummary]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = table_console()
    if not found:
        console.print("no jobs or endpoints")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("kind", "name", "status", "created", "took"):
        table.add_column(column, no_wrap=column != "name", overflow="fold")
    for entry in found:
        took = None if entry.ended is None else (entry.ended - entry.created).total_seconds()
        table.add_row(
            entry.kind,
            Text(entry.name),
            Text(entry.status, COLOURS.get(entry.status, "")),
            entry.created.astimezone().strftime("%Y-%m-%d %H:%M"),
            format_duration(took),
        )
    console.print(table)
