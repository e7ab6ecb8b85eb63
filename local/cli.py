"""The `berth` command. Each command's module is imported on first use, so `--help` is fast."""

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
    """An entry of `COMMANDS`.

    Attributes:
        function: `module:attribute` of a function or a typer.Typer.
        summary: its line in `berth --help`.
        example: the last line of its own help.
        panel: the heading it is listed under.
    """

    function: str
    summary: str
    example: str
    panel: str


DATA, JOBS, SERVING, MACHINE = "Data and image", "Jobs", "Serving", "Local SageMaker"
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
        "Train a classifier and download the results.",
        "berth train s3://bucket/data/flowers/ -p epochs=5 -p learning_rate=0.003 --spot",
        JOBS,
    ),
    "fit": CommandEntry(
        "local.commands.fit:fit",
        "Train the best classifier that a time limit allows.",
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
        "Open a job's report in the browser.",
        "berth report berth-flowers-20260102-030405",
        JOBS,
    ),
    "deploy": CommandEntry(
        "local.commands.deploy:deploy",
        "Deploy a model to an endpoint.",
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
        "Run batch inference on a folder of images.",
        "berth transform photos --job berth-flowers-20260102-030405",
        SERVING,
    ),
    "quantize": CommandEntry(
        "local.commands.quantize:quantize",
        "Quantize a model to int8 and measure its accuracy.",
        "berth quantize berth-flowers-20260102-030405 photos/test",
        SERVING,
    ),
    "delete": CommandEntry(
        "local.commands.delete:delete",
        "Delete endpoints with their configurations and models.",
        "berth delete flowers",
        SERVING,
    ),
    "up": CommandEntry(
        "local.commands.up_down:up",
        "Start the local SageMaker.",
        'eval "$(berth up)"; aws s3 ls',
        MACHINE,
    ),
    "env": CommandEntry(
        "local.commands.up_down:env",
        "Print the environment variables that point AWS clients at it.",
        'eval "$(berth env)"',
        MACHINE,
    ),
    "down": CommandEntry(
        "local.commands.up_down:down", "Stop it; its data is kept.", "berth down", MACHINE
    ),
}


class Commands(TyperGroup):
    """The commands, listed from `COMMANDS`; only the one that is called is imported."""

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }
        super().__init__(**settings)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that `args` names."""
        name, _listed, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


def load(name: str) -> Any:
    """Import a command of `COMMANDS`."""
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
    _flow(command)
    return command


def _flow(command: Any) -> None:
    """Join the lines of a help's paragraphs, which Typer breaks where the docstring does."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    for inner in getattr(command, "commands", {}).values():
        _flow(inner)


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def berth() -> None:
    """Train, tune and serve image classifiers, locally and on AWS alike."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `berth ARGUMENTS` (default: `sys.argv`) and return the exit status.

    An error the user can fix prints one red line on stderr and returns 1. Wrong usage returns 2,
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
