"""The options of a hyperparameter search, for `tune`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from local.errors import UserError
from local.requests.hyperparameter_files import read_search
from local.requests.presets import PRESETS, find_preset
from local.requests.training import canonical
from local.requests.tuning import Range, Search, Strategy

PANEL = "Search"
JOBS, PARALLEL = 10, 2
"""Default numbers of trials in total and in parallel."""


@dataclass(frozen=True)
class SearchOptions:
    """The parsed options.

    Attributes:
        search: the search.
        fixed: hyperparameters fixed by the preset or --ranges; --hyperparameters and --hp override
            them.
        explicit: hyperparameters that have a --range.
    """

    search: Search
    fixed: Mapping[str, str]
    explicit: frozenset[str]

    def without(self, names: Iterable[str]) -> Search:
        """The search without the ranges of `names`, except those from --range."""
        fixed = set(map(canonical, names))
        kept = tuple(
            each
            for each in self.search.ranges
            if each.name in self.explicit or canonical(each.name) not in fixed
        )
        return replace(self.search, ranges=kept)


def search_options(
    *,
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            "-r",
            metavar="NAME=RANGE",
            help="a range to search, repeatable: learning_rate=0.001:0.1:log, "
            "batch_size=32,64,128, epochs=2:4:int",
            rich_help_panel=PANEL,
        ),
    ] = None,
    ranges_file: Annotated[
        Path | None,
        typer.Option(
            "--ranges", help="YAML file of ranges and fixed values", rich_help_panel=PANEL
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"a predefined search: {', '.join(PRESETS)}", rich_help_panel=PANEL),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="most trials (default: 10)", rich_help_panel=PANEL)
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(min=1, help="most parallel trials (default: 2)", rich_help_panel=PANEL),
    ] = None,
    strategy: Annotated[Strategy, typer.Option(rich_help_panel=PANEL)] = "Bayesian",
    objective: Annotated[
        str, typer.Option(help="the objective metric", rich_help_panel=PANEL)
    ] = "validation:accuracy",
    goal: Annotated[
        Literal["Maximize", "Minimize"], typer.Option(rich_help_panel=PANEL)
    ] = "Maximize",
    seed: Annotated[
        int | None, typer.Option(min=0, help="random seed of the search", rich_help_panel=PANEL)
    ] = None,
    early_stopping: Annotated[
        bool,
        typer.Option(
            "--early-stopping", help="stop unpromising trials early", rich_help_panel=PANEL
        ),
    ] = False,
    target: Annotated[
        float | None, typer.Option(help="stop at this objective value", rich_help_panel=PANEL)
    ] = None,
    max_stagnation: Annotated[
        int | None,
        typer.Option(
            min=3, help="stop after this many trials without improvement", rich_help_panel=PANEL
        ),
    ] = None,
    min_resource: Annotated[
        int | None, typer.Option(min=1, help="Hyperband: fewest epochs", rich_help_panel=PANEL)
    ] = None,
    max_resource: Annotated[
        int | None, typer.Option(min=1, help="Hyperband: most epochs", rich_help_panel=PANEL)
    ] = None,
    search_runtime: Annotated[
        int | None,
        typer.Option(
            min=120, help="longest runtime of the search in seconds", rich_help_panel=PANEL
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a parent tuning job to learn from, repeatable",
            rich_help_panel=PANEL,
        ),
    ] = None,
    identical: Annotated[
        bool,
        typer.Option(
            "--identical",
            help="the parents had the same data and image (IdenticalDataAndAlgorithm)",
            rich_help_panel=PANEL,
        ),
    ] = False,
) -> SearchOptions:
    """Parse the options: --range overrides --ranges, which overrides --preset."""
    chosen = None if preset is None else find_preset(preset)
    fixed: dict[str, str] = {}
    every: dict[str, Range] = {}
    if chosen:
        fixed |= chosen.hyperparameters
        every |= {each.name: each for each in chosen.parsed()}
    if ranges_file:
        from_file = read_search(ranges_file)
        fixed |= from_file.hyperparameters
        every |= {each.name: each for each in from_file.ranges}
    explicit = [Range.parse(text) for text in range_ or ()]
    if len({each.name for each in explicit}) < len(explicit):
        raise UserError("--range: two ranges for the same hyperparameter")
    every |= {each.name: each for each in explicit}
    count = jobs or (chosen.jobs if chosen else JOBS)
    search = Search(
        ranges=tuple(every.values()),
        objective=objective,
        goal=goal,
        strategy=strategy,
        max_jobs=count,
        max_parallel=parallel or min(count, chosen.parallel if chosen else PARALLEL),
        seed=seed,
        early_stopping=early_stopping,
        target=target,
        max_stagnation=max_stagnation,
        min_resource=min_resource,
        max_resource=max_resource,
        max_runtime=search_runtime,
        parents=tuple(warm_start or ()),
        identical=identical,
    )
    fixed = {name: value for name, value in fixed.items() if name not in every}
    return SearchOptions(search, fixed, frozenset(each.name for each in explicit))
