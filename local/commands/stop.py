"""`berth stop`: stop a running job; its checkpoints and saved results are kept."""

from typing import Annotated

import typer

from local.client.resources import TRAIN, TRANSFORMS, TUNE, find
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError


@with_common
def stop(
    common: CommonOptions,
    names: Annotated[list[str], typer.Argument(help="training, tuning or transform jobs")],
) -> None:
    """Stop running jobs: they get SIGTERM, two minutes to save their work, then SIGKILL."""
    client = common.connect(needs_role=False).client("sagemaker")
    for name in names:
        running = [
            kind
            for kind, description in find(client, name, (TRAIN, TUNE, TRANSFORMS))
            if description[kind.status] == "InProgress"
        ]
        if not running:
            raise UserError(f"{name}: not running")
        for kind in running:
            getattr(client, str(kind.stopping))(**{kind.argument: name})
            print(f"{kind.name} job {name}: stopping")
