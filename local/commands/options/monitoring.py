"""The options of the debugger and the profiler: what `train` and `tune` monitor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from container.rules.requests import RuleError
from local.commands.options.shared import pairs
from local.errors import UserError
from local.requests.aws_debugger import aws_debugger
from local.requests.monitoring import CHANNEL, Monitoring, split_names
from local.requests.training import TrainingJobRequest, canonical, is_berth_image, merge

if TYPE_CHECKING:
    from local.client.target import Target

PANEL = "Debugger and profiler"
LARGEST = 1_000_000
"""Bytes of a file of rules; one of a dozen rules has 20,000."""

Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="measure where time goes, and make a report of it",
        rich_help_panel=PANEL,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--rule-parameter",
        metavar="RULE_PARAMETER=VALUE",
        help="of a debugger or profiler rule, repeatable: Overfit_patience=3",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class MonitoringOptions:
    """The options as given.

    Attributes:
        monitoring: the debugger and the profiler.
        file: the file of own rules on this machine.
        aws: whether AWS's own debugger and profiler do the work.
    """

    monitoring: Monitoring
    file: Path | None = None
    aws: bool = False

    def apply_to(
        self,
        job: TrainingJobRequest,
        target: "Target",
        name: str,
        given: Mapping[str, str] | None = None,
    ) -> TrainingJobRequest:
        """The job with its monitoring.

        Args:
            job: the job without it.
            target: where it goes.
            name: the job's.
            given: the hyperparameters of --hp, which must not set the same ones.

        Raises:
            UserError: a rule or parameter is unknown, or the options do not fit together.
        """
        monitoring = self.monitoring
        monitoring.check()
        if self.file is not None:
            from container.rules.custom import check

            try:
                check(self.file, monitoring.debug_rules())
            except RuleError as error:
                raise UserError(f"--rules-file: {error}") from None
        if self.aws:
            if not (monitoring.debug or monitoring.profile):
                raise UserError("--aws-debugger: expected --debug or --profile with it")
            return replace(job, debugger=aws_debugger(monitoring, job, name, target.region))
        added = monitoring.hyperparameters()
        if added and not is_berth_image(job.image_uri):
            raise UserError(
                f"--debug and --profile: {job.image_uri} is not this project's image, which alone "
                "has a debugger and a profiler of its own; see --aws-debugger"
            )
        twice = sorted(set(map(canonical, given or {})) & added.keys())
        if twice:
            raise UserError(f"{twice[0]}: found both an option and --hp for it, expected one")
        channels = dict(job.channels)
        if self.file is not None:
            if CHANNEL in channels:
                raise UserError(f"--rules-file: found a --channel {CHANNEL} too, expected one")
            bucket, key = self._rules_object(target, name)
            channels[CHANNEL] = f"s3://{bucket}/{key}"
        return replace(job, hyperparameters=merge(job.hyperparameters, added), channels=channels)

    def uploads(self, target: "Target", name: str) -> list[tuple[str, dict[str, Any]]]:
        """What has to be in S3 before the job: an operation and its request, without the body."""
        if self.file is None or self.aws:
            return []
        bucket, key = self._rules_object(target, name)
        return [("PutObject", {"Bucket": bucket, "Key": key})]

    def upload(self, target: "Target", name: str) -> None:
        """Put it there; the bucket must be."""
        for _, request in self.uploads(target, name):
            body = b"" if self.file is None else self.file.read_bytes()
            target.client("s3").put_object(**request, Body=body)

    def _rules_object(self, target: "Target", name: str) -> tuple[str, str]:
        """Bucket and key of the file of own rules: beside what the job leaves."""
        file = "" if self.file is None else self.file.name
        return target.bucket, f"jobs/{name}/rules/{file}"


def monitoring_options(
    *,
    profile: Profile = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="keep tensors, and evaluate rules on them", rich_help_panel=PANEL
        ),
    ] = False,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a debugger rule, repeatable (default: auto, all that need no parameter); "
            "implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    rule_parameter: Parameters = None,
    stop_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a debugger rule that ends training when it fires, repeatable; implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    rules_file: Annotated[
        Path | None,
        typer.Option(
            help="Python file of your own rules, subclasses of smdebug's Rule; implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    aws_debugger: Annotated[
        bool,
        typer.Option(
            "--aws-debugger",
            help="have AWS's own debugger and profiler do it, on accounts that still have them",
            rich_help_panel=PANEL,
        ),
    ] = False,
) -> MonitoringOptions:
    """The options as given."""
    names, stopping = split_names(rules or ()), split_names(stop_on or ())
    monitoring = Monitoring(
        debug=debug or bool(names or stopping or rules_file),
        profile=profile,
        rules=names,
        parameters=pairs(rule_parameter or (), "--rule-parameter"),
        stop_on=stopping,
        rules_file="" if rules_file is None else rules_file.name,
        own=() if rules_file is None else _own(rules_file),
    )
    return MonitoringOptions(monitoring, rules_file, aws_debugger)


def profile_options(
    *, profile: Profile = False, rule_parameter: Parameters = None
) -> MonitoringOptions:
    """The options of a search: AWS's tuning has no members for its debugger, ours needs none."""
    given = pairs(rule_parameter or (), "--rule-parameter")
    return MonitoringOptions(Monitoring(profile=profile, parameters=given))


def _own(file: Path) -> tuple[str, ...]:
    """The rules in a file, which is not run.

    Raises:
        UserError: it is not there, is no Python, or has no rule in it.
    """
    from container.rules.custom import find

    if file.suffix != ".py":
        raise UserError(f"--rules-file: found {file}, expected a Python file (.py)")
    if file.is_file() and file.stat().st_size > LARGEST:
        raise UserError(f"--rules-file: {file}: larger than {LARGEST:,} bytes")
    try:
        found = tuple(find(file))
    except RuleError as error:
        raise UserError(f"--rules-file: {error}") from None
    if not found:
        raise UserError(f"--rules-file: {file}: no rule in it, expected subclasses of Rule")
    return found
