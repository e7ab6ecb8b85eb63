"""UpdateTrainingJob: the profiler of a job that runs, its profiler rules, its warm pool."""

from typing import Any

from local.emulator.api.operations.answering import OVER, Answer, Request, find
from local.emulator.api.validation.data import check_output
from local.emulator.api.validation.debugger import check_debugger
from local.emulator.api.validation.fields import unsupported
from local.emulator.errors import invalid
from local.emulator.services import Services
from local.emulator.store import Kind, Record

CHANGING = ("ProfilerConfig", "ProfilerRuleConfigurations", "ResourceConfig")


def update(services: Services, request: Request) -> Answer:
    """UpdateTrainingJob."""
    job = find(services, Kind.TRAINING_JOB, request["TrainingJobName"])
    if "RemoteDebugConfig" in request:
        raise unsupported(
            "RemoteDebugConfig", "nothing of a container here is closed to you: docker exec, or ps"
        )
    if not any(field in request for field in CHANGING):
        raise invalid(f"UpdateTrainingJob changes nothing; expected one of {', '.join(CHANGING)}.")
    _check_running(job)
    changes = _changed(job.private["request"], request)
    asked = dict(changes)
    if not request.get("ProfilerRuleConfigurations"):
        # The rules of a profiler that is turned off stay: they judge what was recorded before.
        asked.pop("ProfilerRuleConfigurations", None)
    check_debugger(asked, services)
    root = changes.get("ProfilerConfig", {}).get("S3OutputPath")
    if root:
        check_output(root, "ProfilerConfig.S3OutputPath", services)
    return {"TrainingJobArn": services.training.update(job.name, changes).arn}


def _check_running(job: Record) -> None:
    status = job.body["TrainingJobStatus"]
    if status in OVER or status == "Stopping":
        raise invalid(
            f"The training job is in status {status}; expected InProgress: neither its profiler "
            "nor its warm pool, which ends with it here, can be changed."
        )


def _changed(before: dict[str, Any], request: Request) -> dict[str, Any]:
    """The job's request as it would be if it asked for all this: rules can only be added.

    Raises:
        ServiceError: the change cannot be made.
    """
    changed = dict(before)
    if "ProfilerConfig" in request:
        old, new = before.get("ProfilerConfig", {}), request["ProfilerConfig"]
        root = old.get("S3OutputPath")
        if root and new.get("S3OutputPath", root) != root:
            raise invalid(
                f"ProfilerConfig.S3OutputPath is '{new['S3OutputPath']}'; expected '{root}', where "
                "the job's profiler writes already."
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
                "warm pool; expected one whose CreateTrainingJob asked for it."
            )
        changed["ResourceConfig"] = {**before["ResourceConfig"], **request["ResourceConfig"]}
    return changed
