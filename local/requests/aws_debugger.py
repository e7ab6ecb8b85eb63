"""AWS's own debugger and profiler in a training job's request, for accounts that still have them.

AWS evaluates its rules beside the job, in an image of its own, on what the job's container writes.
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
"""AWS's accounts that hold the rule evaluator's image, by region (sagemaker 3.27's
image_uri_config/debugger.json, whose import takes seconds)."""
REGEXES = {
    "inputs": "^input_images$",
    "labels": "^labels$",
    "predictions": "^predictions$",
    "relu_input": ".*relu_input",
    "relu_output": ".*relu_output",
    "tanh_input": ".*tanh_input",
    "sigmoid_input": ".*sigmoid_input",
}
"""Which tensors are in the collections that smdebug does not know by itself."""
STOP = r"{\"name\": \"stoptraining\", \"training_job_prefix\": \"%s\"}"
"""The StopTraining action, escaped as SageMaker's SDK writes it."""
SAVE_INTERVAL, PROFILE_INTERVAL = "500", "500"
"""Steps between two that keep tensors, and milliseconds between two samples: SageMaker's."""
EVAL_DENSITY = 50
"""Validation losses are kept this many times as often: a validation pass has few steps."""
MOST_RULES = 20
LONGEST_VALUE = 256
"""Rules of a request, and characters of a parameter's value (API reference)."""


def evaluator_image(region: str) -> str:
    """AWS's rule evaluator image.

    Raises:
        UserError: there is none in the region.
    """
    account = ACCOUNTS.get(region)
    if account is None:
        raise UserError(
            f"--aws-debugger: AWS evaluates no rules in {region}; it does in "
            f"{', '.join(sorted(ACCOUNTS))}"
        )
    return f"{account}.dkr.ecr.{region}.{domain(region)}/sagemaker-debugger-rules:latest"


def aws_debugger(
    monitoring: Monitoring, job: TrainingJobRequest, name: str, region: str
) -> dict[str, Any]:
    """The members of a CreateTrainingJob request that set AWS's debugger and profiler to work.

    Args:
        monitoring: what is monitored.
        job: the job; its hyperparameters may set how often tensors and samples are taken.
        name: the job's.
        region: where it runs.

    Raises:
        UserError: there is no such image in the region, or AWS would refuse the rules.
    """
    image = evaluator_image(region)
    if monitoring.rules_file:
        raise UserError("--aws-debugger: AWS's image has built-in rules only; leave --rules-file")
    given = {canonical(key): value for key, value in job.hyperparameters.items()}
    members: dict[str, Any] = {}
    if monitoring.debug:
        rules = monitoring.debug_rules()
        if len(rules) > MOST_RULES:
            raise UserError(f"--rules: found {len(rules)}, AWS evaluates at most {MOST_RULES}")
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
    """Everything the rules read; losses in any case, for the curves."""
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
    """Every parameter is sent: AWS's defaults for names of tensors suit another framework."""
    given = rule.texts
    if rule.stop:
        given["action_json"] = STOP % job
    return _rule(rule.rule, image, given)


def _rule(name: str, image: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    for key, value in parameters.items():
        if len(value) > LONGEST_VALUE:
            raise UserError(
                f"rule {name}: parameter {key!r}: found {len(value)} characters, AWS takes "
                f"{LONGEST_VALUE}"
            )
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }
