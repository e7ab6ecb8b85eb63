"""The operations that the local SageMaker supports.

A new operation needs a row here and validation in `api.validation`. If none of the classes in
`actions` and `listing` fits, write a function in this package.
"""

from collections.abc import Callable

from local.emulator.api.operations.actions import Act, Create, Describe, Update
from local.emulator.api.operations.listing import (
    Listing,
    last_modified,
    list_training_jobs_of_tuning_job,
    tuning_limits,
    warm_pool,
    warm_pool_matches,
)
from local.emulator.api.operations.resources import (
    ENDPOINT,
    ENDPOINT_CONFIG,
    MODEL,
    TRAINING_JOB,
    TRANSFORM_JOB,
    TUNING_JOB,
)
from local.emulator.api.operations.search import get_search_suggestions, search
from local.emulator.api.operations.tags import add_tags, delete_tags, list_tags
from local.emulator.api.operations.training import update_training_job
from local.emulator.api.serializer import Response
from local.emulator.api.validation.hosting import (
    check_endpoint,
    check_endpoint_config,
    check_endpoint_update,
    check_model,
    check_weights,
)
from local.emulator.api.validation.training import check_training
from local.emulator.api.validation.transform import check_transform
from local.emulator.api.validation.tuning import check_tuning
from local.emulator.services import Services
from local.emulator.shapes.parser import Request

Operation = Callable[[Services, Request], Response]

OPERATIONS: dict[str, Operation] = {
    # training jobs
    "CreateTrainingJob": Create(
        TRAINING_JOB, check_training, lambda services, request: services.training.create(request)
    ),
    "DescribeTrainingJob": Describe(TRAINING_JOB),
    "UpdateTrainingJob": Update(TRAINING_JOB, update_training_job),
    "StopTrainingJob": Act(TRAINING_JOB, lambda services, job: services.training.stop(job.name)),
    "DeleteTrainingJob": Act(TRAINING_JOB, TRAINING_JOB.delete_job),
    "ListTrainingJobs": Listing(
        TRAINING_JOB,
        "TrainingJobSummaries",
        (
            "TrainingJobName",
            "TrainingJobArn",
            "CreationTime",
            "TrainingEndTime",
            "LastModifiedTime",
            "TrainingJobStatus",
            "SecondaryStatus",
        ),
        more=warm_pool,
        accepts=warm_pool_matches,
        descending=False,
    ),
    # hyperparameter tuning jobs
    "CreateHyperParameterTuningJob": Create(
        TUNING_JOB, check_tuning, lambda services, request: services.tuning.create(request)
    ),
    "DescribeHyperParameterTuningJob": Describe(TUNING_JOB),
    "StopHyperParameterTuningJob": Act(
        TUNING_JOB, lambda services, job: services.tuning.stop(job.name)
    ),
    "DeleteHyperParameterTuningJob": Act(TUNING_JOB, TUNING_JOB.delete_job),
    "ListHyperParameterTuningJobs": Listing(
        TUNING_JOB,
        "HyperParameterTuningJobSummaries",
        (
            "HyperParameterTuningJobName",
            "HyperParameterTuningJobArn",
            "HyperParameterTuningJobStatus",
            "CreationTime",
            "HyperParameterTuningEndTime",
            "LastModifiedTime",
            "TrainingJobStatusCounters",
            "ObjectiveStatusCounters",
        ),
        more=tuning_limits,
        order="Name",
        descending=False,
    ),
    "ListTrainingJobsForHyperParameterTuningJob": list_training_jobs_of_tuning_job,
    # batch transform jobs
    "CreateTransformJob": Create(
        TRANSFORM_JOB, check_transform, lambda services, request: services.transform.create(request)
    ),
    "DescribeTransformJob": Describe(TRANSFORM_JOB),
    "StopTransformJob": Act(TRANSFORM_JOB, lambda services, job: services.transform.stop(job.name)),
    "ListTransformJobs": Listing(
        TRANSFORM_JOB,
        "TransformJobSummaries",
        (
            "TransformJobName",
            "TransformJobArn",
            "CreationTime",
            "TransformEndTime",
            "TransformJobStatus",
            "FailureReason",
        ),
        more=last_modified,
    ),
    # models
    "CreateModel": Create(MODEL, check_model, MODEL.add),
    "DescribeModel": Describe(MODEL),
    "DeleteModel": Act(MODEL, MODEL.delete),
    "ListModels": Listing(MODEL, "Models", ("ModelName", "ModelArn", "CreationTime")),
    # endpoint configurations
    "CreateEndpointConfig": Create(ENDPOINT_CONFIG, check_endpoint_config, ENDPOINT_CONFIG.add),
    "DescribeEndpointConfig": Describe(ENDPOINT_CONFIG),
    "DeleteEndpointConfig": Act(ENDPOINT_CONFIG, ENDPOINT_CONFIG.delete),
    "ListEndpointConfigs": Listing(
        ENDPOINT_CONFIG,
        "EndpointConfigs",
        ("EndpointConfigName", "EndpointConfigArn", "CreationTime"),
    ),
    # endpoints
    "CreateEndpoint": Create(
        ENDPOINT, check_endpoint, lambda services, request: services.endpoints.create(request)
    ),
    "DescribeEndpoint": Describe(ENDPOINT),
    "UpdateEndpoint": Update(
        ENDPOINT,
        lambda services, _, request: services.endpoints.update(request),
        check_endpoint_update,
    ),
    "UpdateEndpointWeightsAndCapacities": Update(
        ENDPOINT,
        lambda services, _, request: services.endpoints.update_weights(request),
        check_weights,
    ),
    "DeleteEndpoint": Act(
        ENDPOINT, lambda services, endpoint: services.endpoints.delete(endpoint.name)
    ),
    "ListEndpoints": Listing(
        ENDPOINT,
        "Endpoints",
        ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus"),
    ),
    # any resource
    "AddTags": add_tags,
    "DeleteTags": delete_tags,
    "ListTags": list_tags,
    "Search": search,
    "GetSearchSuggestions": get_search_suggestions,
}
"""Operation name → its handler, which turns a parsed request into the response to serialize."""
