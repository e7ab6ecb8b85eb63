"""`berth up`, `berth env` and `berth down`: start and stop the local SageMaker."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from local.client import sdk_configuration
from local.client.target import LOCAL_REGION, LOCAL_ROLE, Target, default_bucket
from local.commands.options.shared import Executor
from local.emulator.credentials import ACCOUNT, credentials
from local.emulator.home import Home
from local.errors import UserError

OF_ANOTHER_ACCOUNT = ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
"""Variables that would combine another account's profile or region with the local access key."""

HomeFolder = Annotated[
    Path | None,
    typer.Option(help="folder of its data (default: $BERTH_HOME, or the user's data directory)"),
]


def up(
    *,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 chooses a free one")] = None,
    executor: Executor = "auto",
    home: HomeFolder = None,
) -> None:
    """Start the local SageMaker; print the environment variables that point AWS clients at it."""
    from local.emulator import daemon

    found = Home.find(home)
    address = daemon.up(found, port=port, executor=executor)
    typer.echo(f"berth: {address.url}, executor {address.executor}, {address.home}", err=True)
    _print_environment(found, str(address.url))


def env(*, home: HomeFolder = None) -> None:
    """Print the environment variables that point AWS clients at the running local SageMaker."""
    from local.emulator import daemon

    found = Home.find(home)
    address = daemon.running(found)
    if address is None:
        raise UserError("the local SageMaker is not running; start it with: berth up")
    _print_environment(found, str(address.url))


def _print_environment(home: Home, url: str) -> None:
    key = credentials(home)
    target = Target("local", url, LOCAL_REGION, ACCOUNT, "", "", "", credentials=key)
    role = f"arn:aws:iam::{ACCOUNT}:role/{LOCAL_ROLE}"
    sdk_configuration.write(home.sdk_file, default_bucket(LOCAL_REGION, ACCOUNT), role)
    variables = target.environment() | {sdk_configuration.VARIABLE: str(home.sdk_file)}
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(
        f"berth: jobs share {home.warm_pool_cache}; its files may be deleted at any time",
        err=True,
    )
    left = [name for name in OF_ANOTHER_ACCOUNT if os.environ.get(name)]
    left += sorted(name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_"))
    if left:
        typer.echo(f"unset {' '.join(left)}")


def down(*, home: HomeFolder = None) -> None:
    """Stop the local SageMaker. Running jobs save a checkpoint and resume after the next `up`."""
    from local.emulator import daemon

    if daemon.down(Home.find(home)):
        typer.echo("berth: stopped; its data is kept")
    else:
        typer.echo("berth: not running")
