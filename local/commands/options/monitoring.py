"""The options of the debugger and the profiler, for `train` and `tune`."""

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
MAX_RULES_FILE = 1_000_000
"""Largest --rules-file, in bytes; a file with a dozen rules has about 20,000."""

Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="profile the job and write a report",
        rich_help_panel=PANEL,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--rule-parameter",
        metavar="RULE_PARAMETER=VALUE",
        help="parameter of a debugger or profiler rule, repeatable: Overfit_patience=3",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class MonitoringOptions:
    """The parsed options.

    Attributes:
        monitoring: settings of the debugger and the profiler.
        file: the local file of custom rules.
        aws: use Amazon SageMaker Debugger instead of berth's own.
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
        """Add monitoring to a job.

        Args:
            job: the job without monitoring.
            target: where the job is going to run.
            name: the job's name.
            given: the hyperparameters from --hp, which must not set the same ones.

        Raises:
            UserError: a rule or parameter is unknown, or options contradict each other.
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
                raise UserError("--aws-debugger: needs --debug or --profile as well")
            return replace(job, debugger=aws_debugger(monitoring, job, name, target.region))
        added = monitoring.hyperparameters()
        if added and not is_berth_image(job.image_uri):
            raise UserError(
                "--debug and --profile: only the berth image supports them, found "
                f"{job.image_uri}; see --aws-debugger"
            )
        duplicates = sorted(set(map(canonical, given or {})) & added.keys())
        if duplicates:
            raise UserError(f"{duplicates[0]}: set by an option and by --hp, expected one of them")
        channels = dict(job.channels)
        if self.file is not None:
            if CHANNEL in channels:
                raise UserError(
                    f"--rules-file: found --channel {CHANNEL} as well, expected one of them"
                )
            bucket, key = self._rules_object(target, name)
            channels[CHANNEL] = f"s3://{bucket}/{key}"
        return replace(job, hyperparameters=merge(job.hyperparameters, added), channels=channels)

    def uploads(self, target: "Target", name: str) -> list[tuple[str, dict[str, Any]]]:
        """The PutObject request for the custom rules, without its body; empty if there are none."""
        if self.file is None or self.aws:
            return []
        bucket, key = self._rules_object(target, name)
        return [("PutObject", {"Bucket": bucket, "Key": key})]

    def upload(self, target: "Target", name: str) -> None:
        """Upload the custom rules to the bucket, which must exist."""
        for _, request in self.uploads(target, name):
            body = b"" if self.file is None else self.file.read_bytes()
            target.client("s3").put_object(**request, Body=body)

    def _rules_object(self, target: "Target", name: str) -> tuple[str, str]:
        """Bucket and key of the custom rules: next to the job's results."""
        file = "" if self.file is None else self.file.name
        return target.bucket, f"jobs/{name}/rules/{file}"


def monitoring_options(
    *,
    profile: Profile = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="save tensors and evaluate rules on them", rich_help_panel=PANEL
        ),
    ] = False,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a debugger rule, repeatable (default: auto, every rule without required "
            "parameters); implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    rule_parameter: Parameters = None,
    stop_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a debugger rule that stops training when it fires, repeatable; implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    rules_file: Annotated[
        Path | None,
        typer.Option(
            help="Python file of custom rules, subclasses of smdebug's Rule; implies --debug",
            rich_help_panel=PANEL,
        ),
    ] = None,
    aws_debugger: Annotated[
        bool,
        typer.Option(
            "--aws-debugger",
            help="use Amazon SageMaker Debugger, on accounts that still have it",
            rich_help_panel=PANEL,
        ),
    ] = False,
) -> MonitoringOptions:
    """Parse the options."""
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
    """Parse the options of `tune`, whose API has no members for Amazon SageMaker Debugger."""
    given = pairs(rule_parameter or (), "--rule-parameter")
    return MonitoringOptions(Monitoring(profile=profile, parameters=given))


def _own(file: Path) -> tuple[str, ...]:
    """The names of the rules in a file, found without running it.

    Raises:
        UserError: the file does not exist, is not Python, or contains no rule.
    """
    from container.rules.custom import find

    if file.suffix != ".py":
        raise UserError(f"--rules-file: found {file}, expected a Python file (.py)")
    if file.is_file() and file.stat().st_size > MAX_RULES_FILE:
        raise UserError(f"--rules-file: {file}: larger than {MAX_RULES_FILE:,} bytes")
    try:
        found = tuple(find(file))
    except RuleError as error:
        raise UserError(f"--rules-file: {error}") from None
    if not found:
        raise UserError(f"--rules-file: {file}: found no rules, expected subclasses of Rule")
    return found
