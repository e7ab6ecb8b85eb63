"""`berth stop`: end a running job; what it has checkpointed and saved by then is kept."""

from typing import Annotated

import typer

from local.client.resources import TRAIN, TRANSFORMS, TUNE, find
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError


@with_common
def stop(
    common: CommonOptions,
    names: Annotated[list[str], typer.Argument(help="of training, tuning or transform jobs")],
) -> None:
    """Stop running jobs: SIGTERM, two minutes to save the work, then SIGKILL."""
    client = common.connect(needs_role=False).client("sagemaker")
    for name in names:
        running = [
            kind
            for kind, answer in find(client, name, (TRAIN, TUNE, TRANSFORMS))
            if answer[kind.status] == "InProgress"
        ]
        if not running:
            raise UserError(f"{name}: it is not running")
        for kind in running:
            getattr(client, str(kind.stopping))(**{kind.argument: name})
            print(f"{kind.name} job {name}: stopping")
