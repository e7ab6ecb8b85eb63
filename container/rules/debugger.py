"""The debugger's rules by name, with SageMaker's parameters and defaults, but not their code.

Sources: the SageMaker developer guide's list of built-in Debugger rules, and smdebug_rulesconfig
1.0.1 for the defaults.
"""

from container.rules.requests import Parameter, RuleSpec


def _number(default: float | None = None) -> Parameter:
    return Parameter("number", default)


def _count(default: int | None = None) -> Parameter:
    return Parameter("count", default)


def _flag(*, default: bool) -> Parameter:
    return Parameter("flag", default)


def _text(default: str | None = None, *, required: bool = False) -> Parameter:
    return Parameter("text", default, required)


_WHICH = {"collection_names": _text(), "tensor_regex": _text()}
_LABELS = {
    "labels_regex": _text(".*labels"),
    "predictions_regex": _text(".*predictions"),
}

_SPECS = (
    RuleSpec(
        "VanishingGradient",
        "gradients that become too small to learn from",
        {"threshold": _number(1e-7)},
        ("gradients",),
    ),
    RuleSpec(
        "ExplodingTensor",
        "tensors with infinite or undefined values",
        {**_WHICH, "only_nan": _flag(default=False)},
        ("losses", "gradients", "weights"),
    ),
    RuleSpec(
        "DeadRelu",
        "layers whose ReLUs are no longer active",
        {
            "tensor_regex": _text(".*relu_output"),
            "threshold_inactivity": _number(1.0),
            "threshold_layer": _number(50.0),
        },
        ("relu_output",),
    ),
    RuleSpec(
        "PoorWeightInitialization",
        "first layers whose weights differ too much in variance, or do not move",
        {
            "activation_inputs_regex": _text(".*relu_input"),
            "threshold": _number(10.0),
            "distribution_range": _number(0.001),
            "patience": _count(5),
            "steps": _count(10),
        },
        ("relu_input", "weights", "gradients"),
    ),
    RuleSpec(
        "SaturatedActivation",
        "tanh and sigmoid layers stuck at their limits",
        {
            "tensor_regex": _text(".*tanh_input|.*sigmoid_input"),
            "threshold_tanh_min": _number(-9.4999),
            "threshold_tanh_max": _number(9.4999),
            "threshold_sigmoid_min": _number(-23.0),
            "threshold_sigmoid_max": _number(16.99999),
            "threshold_inactivity": _number(1.0),
            "threshold_layer": _number(50.0),
        },
        ("tanh_input", "sigmoid_input"),
    ),
    RuleSpec(
        "WeightUpdateRatio",
        "weights that move too much or too little for their size",
        {
            "num_steps": _count(),
            "large_threshold": _number(10.0),
            "small_threshold": _number(1e-8),
            "epsilon": _number(1e-9),
        },
        ("weights", "gradients"),  # weights without a gradient are frozen
    ),
    RuleSpec(
        "AllZero",
        "tensors that are all zero",
        {**_WHICH, "threshold": _number(100.0)},
        in_auto=False,
        one_of=(tuple(_WHICH),),
    ),
    RuleSpec(
        "ClassImbalance",
        "classes that are rare and mispredicted more often than others",
        {
            "threshold_imbalance": _number(10.0),
            "threshold_misprediction": _number(0.7),
            "samples": _count(500),
            "argmax": _flag(default=False),
            **_LABELS,
        },
        ("labels", "predictions"),
    ),
    RuleSpec(
        "LossNotDecreasing",
        "a loss that no longer decreases",
        {
            **_WHICH,
            "use_losses_collection": _flag(default=True),
            "num_steps": _count(10),
            "diff_percent": _number(0.1),
            "increase_threshold_percent": _number(5.0),
            "mode": Parameter("text", "GLOBAL", modes=("EVAL", "TRAIN", "GLOBAL")),
        },
        ("losses",),
    ),
    RuleSpec(
        "Overfit",
        "a validation loss that rises above the training loss",
        {
            "tensor_regex": _text(),
            "start_step": _count(0),
            "patience": _count(1),
            "ratio_threshold": _number(0.1),
        },
        ("losses",),
    ),
    RuleSpec(
        "Overtraining",
        "training that continues without improvement",
        {
            "patience_train": _count(5),
            "patience_validation": _count(10),
            "delta": _number(0.01),
        },
        ("losses",),
    ),
    RuleSpec(
        "SimilarAcrossRuns",
        "tensors that differ from another run's",
        {"other_trials": _text(required=True), **_WHICH},
        ("weights",),
        in_auto=False,
    ),
    RuleSpec(
        "StalledTrainingRule",
        "training that makes no progress",
        {
            "threshold": _number(1800.0),
            "stop_training_on_fire": _flag(default=False),
            "training_job_name_prefix": _text(),
        },
        ("losses",),
    ),
    RuleSpec(
        "TensorVariance",
        "tensors whose variance is too high or too low",
        {**_WHICH, "max_threshold": _number(), "min_threshold": _number()},
        in_auto=False,
        one_of=(tuple(_WHICH), ("max_threshold", "min_threshold")),
    ),
    RuleSpec(
        "UnchangedTensor",
        "tensors that stay the same from step to step",
        {
            **_WHICH,
            "num_steps": _count(3),
            "rtol": _number(1e-5),
            "atol": _number(1e-8),
            "equal_nan": _flag(default=False),
        },
        in_auto=False,
        one_of=(tuple(_WHICH),),
    ),
    RuleSpec(
        "CheckInputImages",
        "input images that were not normalised",
        {
            "threshold_mean": _number(0.2),
            "threshold_samples": _count(500),
            "regex": _text(".*input_image|.*images"),
            "channel": _count(1),
        },
        ("inputs",),
    ),
    RuleSpec(
        "Confusion",
        "a confusion matrix that is weak on its diagonal or strong off it",
        {
            **_LABELS,
            "labels_collection": _text("labels"),
            "predictions_collection": _text("predictions"),
            "min_diag": _number(0.9),
            "max_off_diag": _number(0.1),
            "category_no": _count(),
        },
        ("labels", "predictions"),
        in_auto=False,  # early in training it always fires
    ),
)

DEBUG_RULES = {spec.name: spec for spec in _SPECS}
"""All debugger rules for PyTorch, by name."""
