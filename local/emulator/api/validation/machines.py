"""The machines of a tuning job's training jobs: a ResourceConfig, or what tuning has for it."""

from typing import Any

from local.emulator.api.validation.training import check_resources
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.tuning.plan import machines_of

OWN = "HyperParameterTuningResourceConfig"
ONE_KIND = ("InstanceType", "InstanceCount", "VolumeSizeInGB")


def check_machines(definition: dict[str, Any], context: Context, where: str) -> dict[str, Any]:
    """Exactly one of ResourceConfig and HyperParameterTuningResourceConfig, and it is sound.

    Args:
        definition: the training job definition.
        context: the parts.
        where: what precedes the fields' names in messages.

    Returns:
        The machines that are used, as a ResourceConfig.

    Raises:
        ServiceError: it is refused.
    """
    given = [name for name in ("ResourceConfig", OWN) if definition.get(name) is not None]
    if len(given) != 1:
        raise invalid(
            f"{where}ResourceConfig and {where}{OWN} are {'both given' if given else 'missing'}; "
            "expected exactly one of them."
        )
    field = f"{where}{given[0]}"
    if given == [OWN]:
        _check_own(definition[OWN], field)
    machines = machines_of(definition, context.executor.max_hosts)
    check_resources(machines, context, field)
    return machines


def _check_own(own: dict[str, Any], field: str) -> None:
    configs = own.get("InstanceConfigs")
    if not configs:
        if "AllocationStrategy" in own:
            raise invalid(
                f"{field}.AllocationStrategy was given without InstanceConfigs; expected both or "
                "neither."
            )
        return
    if both := [name for name in ONE_KIND if name in own]:
        raise invalid(
            f"{field}.{both[0]} was given with InstanceConfigs; expected it in each of them, or no "
            "InstanceConfigs."
        )
    for number, config in enumerate(configs):
        for member in ("InstanceCount", "VolumeSizeInGB"):
            if config[member] < 1:
                raise invalid(
                    f"{field}.InstanceConfigs[{number}].{member} is {config[member]}; expected at "
                    "least 1."
                )
