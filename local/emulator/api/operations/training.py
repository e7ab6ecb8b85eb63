"""DescribeTrainingJob and UpdateTrainingJob."""

from typing import Any

from local.emulator.api import defaults
from local.emulator.api.validation.data import check_output
from local.emulator.api.validation.debugger import check_debugger
from local.emulator.api.validation.fields import unsupported
from local.emulator.errors import invalid
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.store import Record
from local.emulator.training.describe import utc_now
from local.emulator.training.metrics import latest
from local.emulator.training.opt_ml import FIRST_HOST
from local.emulator.training.rules import rules_now
from local.statuses import TERMINAL

CHANGEABLE = ("ProfilerConfig", "ProfilerRuleConfigurations", "ResourceConfig")


def describe_training_job(services: Services, job: Record) -> dict[str, Any]:
    """DescribeTrainingJob; for a running job it has the latest metrics and rule statuses."""
    if job.body["TrainingJobStatus"] in TERMINAL:
        return defaults.training_job(job.body)
    definitions = job.body["AlgorithmSpecification"].get("MetricDefinitions", ())
    names = (definition["Name"] for definition in definitions)
    metrics = latest(names, services.training.metrics(job.name))
    rules = rules_now(job.body, services.home.job(job.kind, job.name) / FIRST_HOST, utc_now())
    live = {**rules, **({"FinalMetricDataList": metrics} if metrics else {})}
    return defaults.training_job({**job.body, **live})


def update_training_job(services: Services, job: Record, request: Request) -> None:
    """UpdateTrainingJob: the profiler of a running job, its profiler rules, its warm pool."""
    if "RemoteDebugConfig" in request:
        raise unsupported("RemoteDebugConfig", "use docker exec to open a shell in the container")
    if not any(field in request for field in CHANGEABLE):
        raise invalid(
            f"UpdateTrainingJob changes nothing; expected one of {', '.join(CHANGEABLE)}."
        )
    _check_running(job)
    changed = _changed(job.private["request"], request)
    checked = dict(changed)
    if not request.get("ProfilerRuleConfigurations"):
        # The rules of a profiler that is turned off stay, to evaluate what was recorded before.
        checked.pop("ProfilerRuleConfigurations", None)
    check_debugger(checked, services)
    root = changed.get("ProfilerConfig", {}).get("S3OutputPath")
    if root:
        check_output(root, "ProfilerConfig.S3OutputPath", services)
    services.training.update(job.name, changed)


def _check_running(job: Record) -> None:
    status = job.body["TrainingJobStatus"]
    if status in TERMINAL or status == "Stopping":
        raise invalid(
            f"The training job is in status {status}; expected InProgress: neither its profiler "
            "nor its warm pool, which ends with it here, can be changed."
        )


def _changed(before: dict[str, Any], request: Request) -> dict[str, Any]:
    """The job's request with the changes applied; rules can only be added.

    Raises:
        ServiceError: the change cannot be made.
    """
    changed = dict(before)
    if "ProfilerConfig" in request:
        old, new = before.get("ProfilerConfig", {}), request["ProfilerConfig"]
        root = old.get("S3OutputPath")
        if root and new.get("S3OutputPath", root) != root:
            raise invalid(
                f"ProfilerConfig.S3OutputPath is '{new['S3OutputPath']}'; expected '{root}', as it "
                "cannot be changed."
            )
        changed["ProfilerConfig"] = {**old, **new}
    if "ProfilerRuleConfigurations" in request:
        rules = before.get("ProfilerRuleConfigurations", [])
        changed["ProfilerRuleConfigurations"] = [*rules, *request["ProfilerRuleConfigurations"]]
        if len(changed["ProfilerRuleConfigurations"]) > 20:  # API reference
            raise invalid("ProfilerRuleConfigurations: the job would have more than 20 rules.")
    if "ResourceConfig" in request:
        if not before["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
            raise invalid(
                "ResourceConfig.KeepAlivePeriodInSeconds was given for a training job without a "
                "warm pool; expected one whose CreateTrainingJob set it."
            )
        changed["ResourceConfig"] = {**before["ResourceConfig"], **request["ResourceConfig"]}
    return changed
