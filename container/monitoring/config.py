"""The monitoring configuration of a job, read and validated before it starts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from container.environment import Environment
from container.errors import DataError
from container.files.json_files import read_json
from container.hyperparameters import Hyperparameters
from container.monitoring.debugger.settings import HookSettings, is_wanted
from container.monitoring.debugger.smdebug_install import prepare
from container.monitoring.profiler.settings import ProfilerSettings
from container.rules.custom import check
from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import Catalogue, RuleRequest, from_configurations

PROFILER_RULES_FILE = "profilerruleconfigurations.json"


@dataclass(frozen=True)
class MonitoringConfig:
    """What to debug and profile, validated before training starts.

    Attributes:
        debug: settings of the debugger; None to save no tensors.
        profile: settings of the profiler; None to not profile.
        debug_rules: rules to evaluate on the tensors.
        profiler_rules: rules to evaluate on the profile.
        own_rules: the file of the user's custom rules, or a folder of such files.
    """

    debug: HookSettings | None
    profile: ProfilerSettings | None
    debug_rules: tuple[RuleRequest, ...]
    profiler_rules: tuple[RuleRequest, ...]
    own_rules: Path | None

    @classmethod
    def read(
        cls, environment: Environment, hp: Hyperparameters, say: Callable[[str], None]
    ) -> "MonitoringConfig":
        """Read SageMaker's configuration files and the hyperparameters, which take precedence.

        Raises:
            RuleError: a rule or a parameter is unknown.
            DataError: a configuration file or the file of custom rules cannot be read, or the
                debugger is enabled and smdebug is not installed.
        """
        config = environment.base / "input" / "config"
        debug_rules = _configured(config / "debugruleconfigurations.json", DEBUG_RULES)
        profiler_rules = _configured(config / PROFILER_RULES_FILE, PROFILER_RULES)
        profile = ProfilerSettings.read(
            environment.base,
            profile=hp.profile,
            interval_ms=hp.profile_interval,
            steps=hp.profile_steps,
            say=say,
        )
        if hp.debug:
            names = {rule.name for rule in debug_rules}
            debug_rules += tuple(rule for rule in hp.debug_rules() if rule.name not in names)
        debug = None
        if is_wanted(environment.base, hp.debug):
            prepare()
            debug = HookSettings.read(
                environment.base,
                save_interval=hp.save_interval,
                collections=hp.collections,
                tensorboard=hp.tensorboard,
                rules=debug_rules,
                all_ranks=hp.debug_all_ranks,
            )
        found = cls(
            debug=debug,
            profile=profile,
            debug_rules=debug_rules if debug is not None else (),
            profiler_rules=(profiler_rules or hp.profiler_rules()) if profile is not None else (),
            own_rules=_own_rules(environment, hp),
        )
        for rule in (*found.debug_rules, *found.profiler_rules):
            for action in rule.unserved:
                say(
                    f"rule {rule.name}: nothing is sent for its action {action}; only StopTraining "
                    "is taken here"
                )
        check(found.own_rules, found.debug_rules)
        return found

    def with_new_rules(self, environment: Environment) -> "MonitoringConfig":
        """A copy with the profiler rules that are now in their file.

        Raises:
            RuleError: a rule or a parameter is unknown.
            DataError: the file cannot be read.
        """
        path = environment.base / "input" / "config" / PROFILER_RULES_FILE
        rules = _configured(path, PROFILER_RULES)
        return replace(self, profiler_rules=rules) if rules else self


def _configured(path: Path, catalogue: Catalogue) -> tuple[RuleRequest, ...]:
    if not path.exists():
        return ()
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise DataError(f"{path}: expected a JSON list of objects, found {type(value).__name__}")
    return from_configurations(catalogue, value, path.stem)


def _own_rules(environment: Environment, hp: Hyperparameters) -> Path | None:
    """The user's file, or the folder of the files named in SageMaker's request."""
    if not hp.rules_file:
        folder = environment.base / "input" / "config" / "rules"
        return folder if folder.is_dir() else None
    given = Path(hp.rules_file)
    channel = environment.rules_channel
    path = channel / given if channel is not None else given
    if not path.is_file():
        raise DataError(f"hyperparameter 'rules_file': expected a Python file, found no {path}")
    return path
