"""The `berth` command. A command's module is imported when it is called, so help is instant."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from local.errors import one_line, print_error


@dataclass(frozen=True)
class CommandEntry:
    """A command of the table.

    Attributes:
        function: `module:attribute`, a function or a typer.Typer.
        summary: a line for `berth --help`.
        example: a line its own help ends with.
        panel: under which heading it is listed.
    """

    function: str
    summary: str
    example: str
    panel: str


DATA, JOBS, SERVING, MACHINE = "Data and image", "Jobs", "Serving", "The SageMaker of this machine"
COMMANDS = {
    "data": CommandEntry(
        "local.commands.data:app",
        "Fetch, check and upload images: fetch, lint, upload.",
        "berth data upload photos",
        DATA,
    ),
    "push": CommandEntry(
        "local.commands.push:push",
        "Push the image to ECR and print its URI by digest.",
        "berth push berth:latest --where aws",
        DATA,
    ),
    "tune": CommandEntry(
        "local.commands.tune:tune",
        "Search for the best hyperparameters.",
        "berth tune s3://bucket/data/flowers/ --preset resnet50-frozen --jobs 12",
        JOBS,
    ),
    "train": CommandEntry(
        "local.commands.train:train",
        "Train a classifier and bring home what it left.",
        "berth train s3://bucket/data/flowers/ -p epochs=5 -p learning_rate=0.003 --spot",
        JOBS,
    ),
    "fit": CommandEntry(
        "local.commands.fit:fit",
        "Make the best classifier of a folder for the minutes you have.",
        "berth fit photos --minutes 30",
        JOBS,
    ),
    "jobs": CommandEntry(
        "local.commands.jobs:jobs",
        "List jobs and endpoints.",
        "berth jobs --kind training --status Failed --json",
        JOBS,
    ),
    "logs": CommandEntry(
        "local.commands.logs:logs",
        "Show a job's or an endpoint's log.",
        "berth logs -f berth-flowers-20260102-030405",
        JOBS,
    ),
    "stop": CommandEntry(
        "local.commands.stop:stop",
        "Stop a running job.",
        "berth stop berth-flowers-20260102-030405",
        JOBS,
    ),
    "report": CommandEntry(
        "local.commands.report:report",
        "Look at what a job left.",
        "berth report berth-flowers-20260102-030405",
        JOBS,
    ),
    "deploy": CommandEntry(
        "local.commands.deploy:deploy",
        "Put a model behind an endpoint.",
        "berth deploy flowers --job berth-flowers-20260102-030405",
        SERVING,
    ),
    "invoke": CommandEntry(
        "local.commands.invoke:invoke",
        "Send images to an endpoint.",
        "berth invoke flowers rose.jpg",
        SERVING,
    ),
    "load": CommandEntry(
        "local.commands.load:load",
        "Measure an endpoint under rising load.",
        "berth load flowers photos/test --rate 200",
        SERVING,
    ),
    "transform": CommandEntry(
        "local.commands.transform:transform",
        "Predict a whole folder of images.",
        "berth transform photos --job berth-flowers-20260102-030405",
        SERVING,
    ),
    "quantize": CommandEntry(
        "local.commands.quantize:quantize",
        "Add int8 to a model, measured on a folder of images.",
        "berth quantize berth-flowers-20260102-030405 photos/test",
        SERVING,
    ),
    "delete": CommandEntry(
        "local.commands.delete:delete",
        "Delete endpoints with all that belongs to them.",
        "berth delete flowers",
        SERVING,
    ),
    "up": CommandEntry(
        "local.commands.up_down:up", "Start it.", 'eval "$(berth up)"; aws s3 ls', MACHINE
    ),
    "env": CommandEntry(
        "local.commands.up_down:env",
        "Print what points AWS clients at it.",
        'eval "$(berth env)"',
        MACHINE,
    ),
    "down": CommandEntry(
        "local.commands.up_down:down", "Stop it; what it knows is kept.", "berth down", MACHINE
    ),
}


class Commands(TyperGroup):
    """The table of commands: names and summaries at once, the rest when one is called."""

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }
        super().__init__(**settings)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command `args` names, loaded."""
        name, _listed, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


def load(name: str) -> Any:
    """Import a command of the table."""
    entry = COMMANDS[name]
    module, _, attribute = entry.function.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        app = found
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(name)(found)
    command = typer.main.get_command(app)
    command.name, command.epilog = name, f"Example: {entry.example}"
    return command


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def berth() -> None:
    """Train, tune and serve image classifiers, the same on this machine and on AWS."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `berth ARGUMENTS`, by default the command line's; the exit status.

    An error a user can put right is one red line on stderr and status 1; wrong usage is status 2;
    Ctrl-C 130.
    """
    try:
        app(arguments, prog_name="berth")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        print_error(f"berth: {line}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
