"""`berth up` and `berth down`: the SageMaker of this machine, on and off."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from local.emulator.home import Home
from local.options import Executor
from local.place import LOCAL_ACCOUNT, LOCAL_REGION, Place

HomeFolder = Annotated[
    Path | None,
    typer.Option(
        help="where it keeps everything (default: $BERTH_HOME, or the user's data directory)"
    ),
]


def up(
    *,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one")] = None,
    executor: Executor = "auto",
    home: HomeFolder = None,
) -> None:
    """Start the SageMaker of this machine, and print what points an AWS client at it."""
    from local.emulator import daemon

    address = daemon.up(Home.find(home), port=port, executor=executor)
    typer.echo(f"berth: {address.url}, executor {address.executor}, {address.home}", err=True)
    place = Place("local", str(address.url), LOCAL_REGION, LOCAL_ACCOUNT, "", "", "")
    for name, value in place.environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def down(*, home: HomeFolder = None) -> None:
    """Stop the SageMaker of this machine. Running jobs checkpoint and go on after the next up."""
    from local.emulator import daemon

    if daemon.down(Home.find(home)):
        typer.echo("berth: down; what it knows is kept")
    else:
        typer.echo("berth: it was not running")
