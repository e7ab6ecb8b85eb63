# %% [markdown]
# # Image classification using AWS SageMaker
#
# A typical notebook for the SageMaker Python SDK v2. It differs from a notebook with its own
# `train_model.py` and `hpo.py` only in the image's URI and the names of the hyperparameters.
# `test_sdk_v2.py` runs it in a separate virtual environment against the local SageMaker.

# %%
import json
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import sagemaker
from sagemaker.analytics import HyperparameterTuningJobAnalytics, TrainingJobAnalytics
from sagemaker.debugger import (
    CollectionConfig,
    DebuggerHookConfig,
    FrameworkProfile,
    ProfilerConfig,
    ProfilerRule,
    Rule,
    rule_configs,
)
from sagemaker.estimator import Estimator
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.s3 import S3Downloader
from sagemaker.tuner import CategoricalParameter, ContinuousParameter, HyperparameterTuner
from smdebug.core.modes import ModeKeys
from smdebug.profiler.algorithm_metrics_reader import S3AlgorithmMetricsReader
from smdebug.profiler.system_metrics_reader import S3SystemMetricsReader
from smdebug.trials import create_trial

IMAGE_URI = "berth:latest"
PHOTOS = Path(sys.argv[1])

# %% [markdown]
# ## Data

# %%
session = sagemaker.Session()
bucket = session.default_bucket()
role = boto3.client("iam").get_role(RoleName="berth")["Role"]["Arn"]
inputs = session.upload_data(str(PHOTOS), bucket=bucket, key_prefix="photos")
data = {name: f"{inputs}/{name}" for name in ("train", "validation")}

# %% [markdown]
# ## Hyperparameter tuning

# %%
hyperparameters = {
    "arch": "squeezenet1_1",
    "weights": "none",
    "image_size": 32,
    "epochs": 1,
    "workers": 0,
}
hyperparameter_ranges = {
    "learning_rate": ContinuousParameter(0.001, 0.1),
    "batch_size": CategoricalParameter([8, 16]),
}
metric_definitions = [
    {"Name": "validation:loss", "Regex": "validation:loss=(.*?);"},
    {"Name": "validation:accuracy", "Regex": "validation:accuracy=(.*?);"},
]
estimator = Estimator(
    image_uri=IMAGE_URI,
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters=hyperparameters,
    base_job_name="photos-hpo",
)
tuner = HyperparameterTuner(
    estimator,
    "validation:loss",
    hyperparameter_ranges,
    metric_definitions,
    max_jobs=2,
    max_parallel_jobs=2,
    objective_type="Minimize",
)
tuner.fit(data, wait=True)

# %%
tuned = tuner.analytics().dataframe()
print(tuned)
assert sorted(tuned["TrainingJobStatus"]) == ["Completed", "Completed"]
best_name = tuned.sort_values("FinalObjectiveValue")["TrainingJobName"].iloc[0]
assert tuner.best_training_job() == best_name

best_estimator = tuner.best_estimator()
best = best_estimator.hyperparameters()
print(best)
assert best["_tuning_objective_metric"].strip('"') == "validation:loss"
assert 0.001 <= float(best["learning_rate"]) <= 0.1
assert best["batch_size"].strip('"') in ("8", "16")

# %% [markdown]
# Attach to the tuning job, as another notebook would.

# %%
again = HyperparameterTuner.attach(tuner.latest_tuning_job.name)
assert again.best_training_job() == best_name
assert again.best_estimator().latest_training_job.name == best_name
by_name = HyperparameterTuningJobAnalytics(tuner.latest_tuning_job.name)
assert set(by_name.dataframe()["TrainingJobName"]) == set(tuned["TrainingJobName"])
assert {each["Name"] for each in by_name.tuning_ranges.values()} == set(hyperparameter_ranges)

# %% [markdown]
# ## Training with debugger and profiler

# %%
rules = [
    Rule.sagemaker(rule_configs.vanishing_gradient()),
    Rule.sagemaker(rule_configs.overfit()),
    Rule.sagemaker(rule_configs.overtraining()),
    Rule.sagemaker(rule_configs.poor_weight_initialization()),
    Rule.sagemaker(
        rule_configs.loss_not_decreasing(),
        rule_parameters={"num_steps": "2"},
        collections_to_save=[
            CollectionConfig("losses", {"train.save_interval": "2", "eval.save_interval": "1"})
        ],
    ),
    ProfilerRule.sagemaker(rule_configs.LowGPUUtilization()),
    ProfilerRule.sagemaker(rule_configs.ProfilerReport()),
]
profiler_config = ProfilerConfig(
    system_monitor_interval_millis=500, framework_profile_params=FrameworkProfile(num_steps=4)
)
debugger_config = DebuggerHookConfig(
    hook_parameters={"train.save_interval": "2", "eval.save_interval": "1"}
)
estimator = Estimator(
    image_uri=IMAGE_URI,
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={
        **hyperparameters,
        "epochs": 2,
        "batch_size": int(best["batch_size"].strip('"')),
        "learning_rate": float(best["learning_rate"]),
    },
    base_job_name="photos",
    metric_definitions=metric_definitions,
    rules=rules,
    profiler_config=profiler_config,
    debugger_hook_config=debugger_config,
)
estimator.fit(data, wait=True)

# %%
job_name = estimator.latest_training_job.name
description = boto3.client("sagemaker").describe_training_job(TrainingJobName=job_name)
assert description["TrainingJobStatus"] == "Completed"
estimator.logs()

accuracies = TrainingJobAnalytics(job_name, ["validation:accuracy"]).dataframe()
print(accuracies)
assert list(accuracies["metric_name"].unique()) == ["validation:accuracy"]

attached = Estimator.attach(job_name)
assert attached.model_data == estimator.model_data
assert attached.hyperparameters()["epochs"].strip('"') == "2"

# %% [markdown]
# The debugger's rule statuses and tensors.

# %%
statuses = {
    each["RuleConfigurationName"]: each["RuleEvaluationStatus"]
    for each in estimator.latest_training_job.rule_job_summary()
}
print(json.dumps(statuses, indent=1))
assert set(statuses) >= {
    "VanishingGradient", "Overfit", "Overtraining", "PoorWeightInitialization",
    "LossNotDecreasing", "LowGPUUtilization",
}  # fmt: skip
assert set(statuses.values()) <= {"NoIssuesFound", "IssuesFound"}

trial = create_trial(estimator.latest_job_debugger_artifacts_path())
(loss,) = trial.tensor_names(collection="losses")
steps = trial.tensor(loss).steps(mode=ModeKeys.TRAIN)
print(loss, steps, trial.tensor(loss).value(steps[0], mode=ModeKeys.TRAIN))
assert len(steps) > 1
assert trial.tensor(loss).steps(mode=ModeKeys.EVAL)

# %% [markdown]
# The profiler's metrics and report.

# %%
measured = estimator.latest_job_profiler_artifacts_path()
for kind in (S3SystemMetricsReader, S3AlgorithmMetricsReader):
    reader = kind(measured)
    reader.refresh_event_file_list()
    events = reader.get_events(0, int(time.time() * 1_000_000))
    print(kind.__name__, len(events))
    assert events

rule_output_path = estimator.output_path + job_name + "/rule-output"
S3Downloader.download(rule_output_path, "rule-output")
profiler_report_name = next(name for name in statuses if name.startswith("ProfilerReport"))
report = Path("rule-output", profiler_report_name, "profiler-output", "profiler-report.html")
print(report, report.stat().st_size)
assert "<html" in report.read_text()

# %% [markdown]
# ## Deployment

# %%
photo = min(PHOTOS.glob("validation/red/*"))


class ImagePredictor(Predictor):
    def __init__(self, endpoint_name: Any, sagemaker_session: Any, **_options: Any) -> None:
        super().__init__(
            endpoint_name,
            sagemaker_session=sagemaker_session,
            serializer=sagemaker.serializers.IdentitySerializer("image/png"),
            deserializer=sagemaker.deserializers.JSONDeserializer(),
        )


model = Model(
    image_uri=IMAGE_URI,
    model_data=estimator.model_data,
    role=role,
    predictor_cls=ImagePredictor,
    sagemaker_session=session,
)
predictor = model.deploy(initial_instance_count=1, instance_type="ml.m5.large")
answer = predictor.predict(photo.read_bytes())
print(answer)
assert answer["predictions"][0]["label"] in {"blue", "green", "red"}
predictor.delete_model()
predictor.delete_endpoint()

# %% [markdown]
# ## Batch transform

# %%
transformer = estimator.transformer(
    instance_count=1, instance_type="ml.m5.large", accept="application/json"
)
transformer.transform(f"{data['validation']}/red", content_type="image/png", wait=True)
for uri in S3Downloader.list(transformer.output_path):
    assert json.loads(S3Downloader.read_file(uri))["predictions"][0]["label"]
assert len(S3Downloader.list(transformer.output_path)) == len(list(photo.parent.iterdir()))
