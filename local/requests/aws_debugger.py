"""Amazon SageMaker Debugger in a training job's request, for accounts that still have it.

AWS runs its rules in a separate container, on the tensors that the job's container writes to S3.
"""

from collections.abc import Mapping
from typing import Any

from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleRequest
from local.errors import UserError
from local.partitions import domain
from local.requests.monitoring import Monitoring, is_profiler_parameter
from local.requests.training import TrainingJobRequest, canonical

ACCOUNTS = {
    "af-south-1": "314341159256",
    "ap-east-1": "199566480951",
    "ap-northeast-1": "430734990657",
    "ap-northeast-2": "578805364391",
    "ap-northeast-3": "479947661362",
    "ap-south-1": "904829902805",
    "ap-southeast-1": "972752614525",
    "ap-southeast-2": "184798709955",
    "ca-central-1": "519511493484",
    "cn-north-1": "618459771430",
    "cn-northwest-1": "658757709296",
    "eu-central-1": "482524230118",
    "eu-north-1": "314864569078",
    "eu-south-1": "563282790590",
    "eu-west-1": "929884845733",
    "eu-west-2": "250201462417",
    "eu-west-3": "447278800020",
    "me-south-1": "986000313247",
    "sa-east-1": "818342061345",
    "us-east-1": "503895931360",
    "us-east-2": "915447279597",
    "us-gov-west-1": "515509971035",
    "us-west-1": "685455198987",
    "us-west-2": "895741380848",
}
"""AWS accounts with the rule evaluator's image, by region (image_uri_config/debugger.json of
sagemaker 3.27, whose import takes seconds)."""
REGEXES = {
    "inputs": "^input_images$",
    "labels": "^labels$",
    "predictions": "^predictions$",
    "relu_input": ".*relu_input",
    "relu_output": ".*relu_output",
    "tanh_input": ".*tanh_input",
    "sigmoid_input": ".*sigmoid_input",
}
"""Regular expressions of the collections that smdebug does not define itself."""
STOP = r"{\"name\": \"stoptraining\", \"training_job_prefix\": \"%s\"}"
"""The StopTraining action, escaped like in the SageMaker SDK."""
SAVE_INTERVAL, PROFILE_INTERVAL = "500", "500"
"""SageMaker's defaults: steps between saved tensors, milliseconds between profiler samples."""
EVAL_DENSITY = 50
"""Validation losses are saved this many times as often, because validation has few steps."""
MAX_RULES = 20
"""Most rules in a request (API reference)."""
MAX_VALUE = 256
"""Most characters in a parameter's value (API reference)."""


def evaluator_image(region: str) -> str:
    """The URI of AWS's rule evaluator image.

    Raises:
        UserError: the region has none.
    """
    account = ACCOUNTS.get(region)
    if account is None:
        raise UserError(
            f"--aws-debugger: found region {region}, expected one of {', '.join(sorted(ACCOUNTS))}"
        )
    return f"{account}.dkr.ecr.{region}.{domain(region)}/sagemaker-debugger-rules:latest"


def aws_debugger(
    monitoring: Monitoring, job: TrainingJobRequest, name: str, region: str
) -> dict[str, Any]:
    """The members of a CreateTrainingJob request for Amazon SageMaker Debugger.

    Args:
        monitoring: settings of the debugger and the profiler.
        job: the job, whose hyperparameters may set save_interval and profile_interval.
        name: the job's name.
        region: the job's region.

    Raises:
        UserError: the region has no rule evaluator image, or AWS would reject the rules.
    """
    image = evaluator_image(region)
    if monitoring.rules_file:
        raise UserError("--aws-debugger: it has built-in rules only; omit --rules-file")
    given = {canonical(key): value for key, value in job.hyperparameters.items()}
    members: dict[str, Any] = {}
    if monitoring.debug:
        rules = monitoring.debug_rules()
        if len(rules) > MAX_RULES:
            raise UserError(f"--rules: found {len(rules)}, expected at most {MAX_RULES} on AWS")
        members["DebugHookConfig"] = {
            "S3OutputPath": job.output,
            "CollectionConfigurations": _collections(
                rules, given.get("save_interval", SAVE_INTERVAL)
            ),
        }
        members["DebugRuleConfigurations"] = [_debug_rule(rule, image, name) for rule in rules]
    if monitoring.profile:
        members["ProfilerConfig"] = {
            "S3OutputPath": job.output,
            "ProfilingIntervalInMilliseconds": int(given.get("profile_interval", PROFILE_INTERVAL)),
        }
        thresholds = {
            key: text for key, text in monitoring.parameters.items() if is_profiler_parameter(key)
        }
        members["ProfilerRuleConfigurations"] = [_rule("ProfilerReport", image, thresholds)]
    return members


def _collections(rules: tuple[RuleRequest, ...], interval: str) -> list[dict[str, Any]]:
    """The collections the rules read, and always the losses, for the learning curves."""
    names = dict.fromkeys(["losses"])
    for rule in rules:
        collections = str(rule.parameters.get("collection_names") or "")
        names |= dict.fromkeys(DEBUG_RULES[rule.rule].collections)
        names |= dict.fromkeys(name.strip() for name in collections.split(",") if name.strip())
    return [
        {"CollectionName": name, "CollectionParameters": _collection(name, interval)}
        for name in names
    ]


def _collection(name: str, interval: str) -> dict[str, str]:
    if name == "losses":
        dense = max(1, int(interval) // EVAL_DENSITY)
        return {"train.save_interval": interval, "eval.save_interval": str(dense)}
    regex = {"include_regex": REGEXES[name]} if name in REGEXES else {}
    return {**regex, "save_interval": interval}


def _debug_rule(rule: RuleRequest, image: str, job: str) -> dict[str, Any]:
    """A rule with every parameter: AWS's default tensor names are for another framework."""
    given = rule.texts
    if rule.stop:
        given["action_json"] = STOP % job
    return _rule(rule.rule, image, given)


def _rule(name: str, image: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    for key, value in parameters.items():
        if len(value) > MAX_VALUE:
            raise UserError(
                f"rule {name}: parameter {key!r}: found {len(value)} characters, expected at most "
                f"{MAX_VALUE} on AWS"
            )
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }
