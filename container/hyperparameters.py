"""The hyperparameters: SageMaker's strings in, one typed, validated model out.

Every value reaches a container as a string. SDK v2 and v3 JSON-encode (`"0.1"`, `"true"`,
`"\\"adamw\\""`), boto3 users write plain text (`adamw`, `True`); one decoder reads them all. `-`
and `_` are the same in a name, and an unknown name is an error: a typo costs nothing on AWS.

    python -m container.hyperparameters      # every name, default and meaning, as a Markdown table
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from container.errors import BerthError, ScriptError
from container.hyperparameter_strings import decode, expected, sentence, short
from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleError, RuleRequest, parse_rules
from container.script_mode import refuse_script

ALIASES = {"lr": "learning_rate"}
"""Other names of hyperparameters."""

COLLECTIONS = (
    "losses",
    "weights",
    "gradients",
    "biases",
    "activations",
    "inputs",
    "labels",
    "predictions",
)
"""Tensors that can be kept, by smdebug's names (activations are outputs)."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


FIT_HYPERPARAMETERS = frozenset(
    {
        "amp",
        "arch",
        "checkpoint_minutes",
        "fit_minutes",
        "image_size",
        "on_bad_image",
        "seed",
        "validation_split",
        "weights",
        "workers",
    }
)
"""What a fit job takes."""

CHOSEN_BY_FIT = frozenset(
    {
        "augment",
        "augment_views",
        "batch_size",
        "early_stopping_patience",
        "ema",
        "epochs",
        "feature_cache",
        "freeze",
        "freeze_batch_norm",
        "label_smoothing",
        "layer_decay",
        "learning_rate",
        "mixup",
        "optimizer",
        "schedule",
        "warmup_epochs",
        "weight_decay",
    }
)
"""What a fit job chooses: refused even at its default. Of the others it has the defaults."""

UNTRAINED = (
    "freeze=true with weights=none trains a head on random features that never change: expect "
    "little of it; give weights=imagenet or an earlier model, or freeze=false"
)
"""The warning for a frozen backbone with random weights."""


def frozen_untrained(freeze: bool, weights: str) -> bool:
    """Whether a job trains a head on random features."""
    return freeze and weights.lower() == "none"


class HyperparameterError(BerthError):
    """A hyperparameter is unknown, given twice, or has a value outside its range."""


class Hyperparameters(BaseModel):
    """The hyperparameters of a training job. Defaults are PyTorch's where PyTorch has one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    arch: str = Field(
        "resnet18",
        description="any torchvision or timm classifier, by name; timm/NAME where both have it",
    )
    weights: str = Field(
        "imagenet",
        description="imagenet (weights channel, then the image, then a hub), none, "
        "or a path to a .safetensors or .pth file or to an earlier job's model",
    )
    freeze: bool = Field(False, description="train the head only, on a frozen backbone")
    feature_cache: Literal["auto", "on", "off"] = Field(
        "auto",
        description="auto, on or off: with freeze, compute each image's features once and train "
        "the head on them; auto is on unless something forbids it, which the log says",
    )
    augment_views: int = Field(
        4,
        ge=1,
        le=100,
        description="augmented views of each training image that get features, at most one an "
        "epoch",
    )
    features_only: bool = Field(
        False,
        description="compute the features and leave them as the model, for another job's features "
        "channel; nothing is trained",
    )
    freeze_batch_norm: bool = Field(
        False,
        description="keep batch normalisation's statistics as they are; its weights still learn",
    )
    stem: Literal["auto", "standard", "small", "full"] = Field(
        "auto",
        description="first layers of a ResNet: standard (7x7 stride 2, max-pool), small (3x3 "
        "stride 1, max-pool), full (3x3 stride 1, no pool; 4 times the work of small); auto is "
        "small for image_size <= 64 without pretrained weights, else standard",
    )
    head_hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        (), description="widths of hidden layers in the head, e.g. 512 or 512,256"
    )
    dropout: Fraction = Field(0.0, description="dropout before each linear layer of the head")
    image_size: int = Field(
        224,
        ge=8,
        le=2048,
        description="side of the square network input; by default what pretrained weights expect",
    )
    epochs: int = Field(10, ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(32, ge=2, le=65536, description="images per batch and process")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=65536, description="batches whose gradients make one optimizer step"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field("adamw", description="sgd, adam or adamw")
    learning_rate: float = Field(1e-3, gt=0, le=1000, description="its highest value")
    momentum: float = Field(0.9, ge=0, le=1, description="of SGD")
    nesterov: bool = Field(False, description="Nesterov momentum of SGD")
    weight_decay: NonNegative = Field(1e-2, description="not applied to biases and norm layers")
    eps: float = Field(1e-8, gt=0, description="of Adam and AdamW")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="cosine (down to zero) or constant"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of each stage of the network over that of the one after it; "
        "1 is the same for all",
    )
    warmup_epochs: NonNegative = Field(0.0, description="linear warm-up; fractions count")
    label_smoothing: Fraction = Field(
        0.0, description="share of the target spread over all classes"
    )
    mixup: NonNegative = Field(0.0, description="alpha of mixup; 0 is off")
    cutmix: NonNegative = Field(0.0, description="alpha of CutMix; 0 is off")
    augment: Literal["none", "standard", "strong"] = Field(
        "standard",
        description="none, standard (random crop or shift, mirror) or strong (TrivialAugmentWide "
        "and random erasing as well)",
    )
    ema: Fraction = Field(0.0, description="decay of the weights' moving average; 0 is off")
    early_stopping_patience: int = Field(
        0, ge=0, description="epochs without a better validation accuracy; 0 is off"
    )
    gradient_clip: NonNegative = Field(0.0, description="largest gradient norm; 0 is off")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="none, or balanced: rare classes weigh more in the loss"
    )
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        "auto",
        description="auto, off, bf16 or fp16; auto is bf16 or else fp16 on a GPU, off on a CPU",
    )
    compile: bool = Field(False, description="torch.compile the network")
    quantize: Literal["auto", "off", "int8"] = Field(
        "auto",
        description="auto, off or int8: leave the model in int8 as well, for CPUs; auto does where "
        "it takes at most a tenth of the job's time",
    )
    quantize_tolerance: float = Field(
        0.5, ge=0, le=100, description="percentage points of accuracy that int8 may lose"
    )
    workers: int | None = Field(
        None, ge=0, le=256, description="loader processes; by default one a core, at most 8"
    )
    fit_minutes: float = Field(
        0.0,
        ge=0,
        le=28 * 24 * 60,
        description="minutes for a fit job, which chooses what is not given here: backbone, image "
        "size and how to train, and ends within them; 0 is off",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="the same seed gives the same run")
    validation_split: float = Field(
        0.2, gt=0, lt=1, description="share of train used when there is no validation channel"
    )
    on_bad_image: Literal["skip", "fail"] = Field(
        "skip", description="skip (and name) files that cannot be decoded, or fail"
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="checkpoint at least this often within an epoch"
    )
    debug: bool | None = Field(
        None,
        description="keep tensors and evaluate rules on them; by default where SageMaker's request "
        "has a DebugHookConfig",
    )
    save_interval: int = Field(500, ge=1, description="steps between two that keep tensors")
    collections: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="tensors kept besides those the rules read: losses, weights, gradients, "
        "biases, activations, inputs, labels, predictions",
    )
    tensorboard: bool = Field(False, description="with debug, TensorBoard summaries as well")
    debug_all_ranks: bool = Field(False, description="keep tensors of every process, not only one")
    rules: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("auto",),
        description="debugger rules by name; auto is every one that needs no parameter; none",
    )
    rule_parameters: dict[str, float | int | bool | str | None] = Field(
        {},
        description='a JSON object that changes parameters of rules: {"Overfit_patience": 3}; for '
        "the profiler's rules too",
    )
    stop_on: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="rules that end training, with the model so far, when they fire"
    )
    rules_file: str = Field(
        "", description="a Python file of your own rules; a bare name is one in the rules channel"
    )
    profile: bool | None = Field(
        None,
        description="measure where time goes and write the report; by default where SageMaker's "
        "request has a ProfilerConfig",
    )
    profile_interval: Literal[100, 200, 500, 1000, 5000, 60000] = Field(
        500, description="milliseconds between two samples of the machine's use"
    )
    profile_steps: str = Field(
        "10-12",
        pattern=r"^(none|[0-9]+(-[0-9]+)?)$",
        description="training steps whose operators torch.profiler records, such as 10-12; none",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation not in (bool, bool | None):
            raise ValueError(f"expected {expected(field)}")
        return value

    @model_validator(mode="after")
    def _nesterov(self) -> "Hyperparameters":
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError("hyperparameter 'nesterov': needs a momentum above 0, found 0")
        return self

    @model_validator(mode="after")
    def _features(self) -> "Hyperparameters":
        name = "features_only" if self.features_only else "feature_cache"
        if not (self.features_only or self.feature_cache == "on"):
            return self
        if not self.freeze:
            raise ValueError(f"hyperparameter {name!r}: needs freeze=true, found freeze=false")
        if self.cutmix:
            raise ValueError(f"hyperparameter {name!r}: needs cutmix=0, found cutmix={self.cutmix}")
        if self.features_only and self.feature_cache == "off":
            raise ValueError("hyperparameter 'features_only': found with feature_cache=off")
        return self

    @field_validator("collections", "rules", "stop_on", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("collections")
    @classmethod
    def _collections(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in COLLECTIONS:
                raise ValueError(f"expected some of {', '.join(COLLECTIONS)}")
        return value

    @model_validator(mode="after")
    def _fit(self) -> "Hyperparameters":
        if not self.fit_minutes:
            return self
        if self.weights.lower() == "none":
            raise ValueError(
                "hyperparameter 'weights': a fit job needs pretrained ones, found none; expected "
                "imagenet or a path"
            )
        default = type(self).model_fields
        for name in sorted(self.model_fields_set - FIT_HYPERPARAMETERS):
            value = getattr(self, name)
            if name in CHOSEN_BY_FIT or (value is not False and value != default[name].default):
                raise ValueError(
                    f"hyperparameter {name!r}: found with fit_minutes, expected it left out: a fit "
                    f"job takes only {', '.join(sorted(FIT_HYPERPARAMETERS))}"
                )
        return self

    @model_validator(mode="after")
    def _rules(self) -> "Hyperparameters":
        self.debug_rules()
        self.profiler_rules()
        return self

    def debug_rules(self) -> tuple[RuleRequest, ...]:
        """The requested debugger rules.

        Raises:
            RuleError: one is unknown, or one of its parameters.
        """
        names = [name for name in self.rules if name.lower() != "none"]
        overrides = {
            key: value for key, value in self.rule_parameters.items() if not _of_profiler(key)
        }
        return parse_rules(DEBUG_RULES, names, overrides, self.stop_on, own=bool(self.rules_file))

    def profiler_rules(self) -> tuple[RuleRequest, ...]:
        """All profiler rules, with the requested parameters.

        Raises:
            RuleError: a parameter is unknown.
        """
        overrides = {key: value for key, value in self.rule_parameters.items() if _of_profiler(key)}
        return parse_rules(PROFILER_RULES, ["auto"], overrides)

    @field_validator("head_hidden", mode="before")
    @classmethod
    def _widths(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part for part in value.replace(" ", "").split(",") if part)
        if isinstance(value, bool):
            raise ValueError("expected widths such as 512 or 512,256")
        return (value,) if isinstance(value, int) else value

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Hyperparameters":
        """Read SageMaker's map of strings.

        The toolkit's and the tuner's own entries (`sagemaker_*`, `_tuning_*`) are left out.

        Raises:
            HyperparameterError: one line naming each offending hyperparameter, the value found and
                what was expected; or stating that no script is run.
        """
        try:
            refuse_script(given)
        except ScriptError as error:
            raise HyperparameterError(str(error)) from None
        values: dict[str, Any] = {}
        for key, raw in given.items():
            if key.startswith(("sagemaker_", "_tuning_")):
                continue
            name = key.strip().lower().replace("-", "_")
            name = ALIASES.get(name, name)
            if name not in cls.model_fields:
                raise HyperparameterError(_unknown(key, name))
            if name in values:
                raise HyperparameterError(f"hyperparameter {name!r} is given twice (as {key!r})")
            try:
                values[name] = decode(raw, text=cls.model_fields[name].annotation is str)
            except RecursionError:
                raise HyperparameterError(
                    f"hyperparameter {name!r}: expected {expected(cls.model_fields[name])}, found "
                    f"brackets nested too deep ({short(raw)})"
                ) from None
        try:
            return cls.model_validate(values)
        except RuleError as error:
            line = re.sub(r"\S{80,}", lambda long: f"{long[0][:77]}...", str(error))
            raise HyperparameterError(line) from None
        except ValidationError as error:
            raise HyperparameterError("; ".join(map(sentence, error.errors()))) from None


def _of_profiler(key: str) -> bool:
    """Whether `<Rule>_<parameter>` names one of the profiler's rules."""
    return key.partition("_")[0].lower() in {name.lower() for name in PROFILER_RULES}


def _unknown(key: str, name: str) -> str:
    known = [*Hyperparameters.model_fields, *ALIASES]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    return f"unknown hyperparameter {short(key)}: {hint}"


def table() -> str:
    """The hyperparameters as a Markdown table: name, default, meaning."""
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, field in Hyperparameters.model_fields.items():
        default = field.default if field.default not in (None, (), {}, "") else "–"
        if isinstance(default, tuple):
            default = ",".join(default)
        rows.append(f"| `{name}` | {str(default).lower()} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
