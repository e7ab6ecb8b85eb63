import dataclasses
from typing import Any

import pandas as pd
import pytest

from container.monitoring.profiler.rules import evaluate
from container.monitoring.profiler.verdict import verdict
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import parse_rules
from tests.unit.container.monitoring.profiler.recorded import fired, recorded

GPU = {"device": "NVIDIA T4"}


def judged(**given: Any) -> Any:
    return verdict(recorded(**given), ())


def advice(found: Any, name: Any) -> Any:
    return next((each for each in found.recommendations if each.hyperparameter == name), None)


def waiting(share: Any) -> Any:
    rest = 1 - share
    return {"data": share, "forward": 0.3 * rest, "backward": 0.65 * rest, "optimizer": 0.05 * rest}


# Waiting for data ------------------------------------------------------------------------------


def test_a_gpu_that_waits_for_data_needs_more_workers() -> None:
    found = judged(
        phases=waiting(0.4), job=GPU, use={"GPU": 55, "CPU": 20}, hyperparameters={"workers": 2}
    )
    workers = advice(found, "workers")
    # Two workers need 2 steps for a batch; 2 / (1 - 0.4) = 3.3, one to spare is 5.
    assert (workers.current, workers.to) == (2, 5)
    assert workers.factor == pytest.approx(1 / 0.6)
    assert workers.formula == "1 / max(1 − 0.40, 2 / 5) = 1.67"
    assert found.tone == "improvable"
    assert found.sentences[0].startswith("The GPU waits 40 % of the time for data; try workers=5")


def test_without_workers_the_loading_time_is_saved() -> None:
    found = judged(phases=waiting(0.75), job=GPU, use={"GPU": 20}, hyperparameters={"workers": 0})
    workers = advice(found, "workers")
    assert workers.to == 4  # 0.75 / 0.25 = 3, and one to spare
    assert workers.factor == pytest.approx(4)


def test_no_more_workers_than_cores_are_recommended() -> None:
    found = judged(
        phases=waiting(0.6), job=GPU, use={"GPU": 30}, cores=4, hyperparameters={"workers": 2}
    )
    workers = advice(found, "workers")
    assert workers.to == 4
    assert workers.factor == pytest.approx(1 / 0.5)  # 2 of 4 workers: half a step a batch


def test_if_all_cores_load_data_more_cores_are_recommended() -> None:
    found = judged(
        phases=waiting(0.5), job=GPU, use={"GPU": 40}, cores=4, hyperparameters={"workers": 4}
    )
    assert advice(found, "workers") is None
    assert advice(found, "instance_type").to == "8 cores or more"


def test_the_gain_from_workers_is_limited_by_the_idle_cores() -> None:
    found = judged(phases=waiting(0.4), use={"CPU": 80}, hyperparameters={"workers": 1})
    assert advice(found, "workers").factor == pytest.approx(1 / 0.8)
    found = judged(phases=waiting(0.4), use={"CPU": 99}, hyperparameters={"workers": 1})
    assert advice(found, "workers") is None


def test_a_wait_during_which_the_gpu_works_costs_nothing() -> None:
    found = judged(phases=waiting(0.4), job=GPU, use={"GPU": 99}, hyperparameters={"workers": 1})
    assert advice(found, "workers") is None
    assert found.tone == "healthy"
    assert any("works on through all but 1.0 %" in each for each in found.sentences)


def test_workers_are_not_recommended_for_images_kept_in_memory() -> None:
    found = judged(phases=waiting(0.4), hyperparameters={"workers": 1, "image_size": 32})
    assert advice(found, "workers") is None
    assert any("decoded in memory" in each for each in found.sentences)


def test_without_a_number_one_worker_per_core_is_assumed() -> None:
    found = judged(phases=waiting(0.4), job={"hyperparameters": None, "workers": None, **GPU})
    assert (advice(found, "workers").current, advice(found, "workers").to) == (None, 8)


# Computing -------------------------------------------------------------------------------------


def test_a_step_that_is_mostly_overhead_needs_a_larger_batch() -> None:
    phases = {"forward": 0.2, "backward": 0.3, "optimizer": 0.3, "metrics": 0.2}
    found = judged(phases=phases, use={"memory": 10, "CPU": 50})
    batch = advice(found, "batch_size")
    assert (batch.current, batch.to) == (32, 128)  # 8 times gains little more than 4
    assert batch.factor == pytest.approx(1 / (1 - 0.5 * 0.75))
    assert batch.also == "learning_rate=0.002"  # AdamW: the root of 4


def test_memory_limits_the_batch_size() -> None:
    phases = {"forward": 0.2, "backward": 0.3, "optimizer": 0.5}
    assert advice(judged(phases=phases, use={"memory": 50}), "batch_size") is None
    assert advice(judged(phases=phases, use={"memory": 40}), "batch_size").to == 64


def test_few_images_limit_the_batch_size() -> None:
    phases = {"forward": 0.2, "backward": 0.3, "optimizer": 0.5}
    assert advice(judged(phases=phases, job={"train_images": 1000}), "batch_size") is None


def test_threads_that_leave_cores_idle() -> None:
    found = judged(job={"device": "cpu with 2 threads"}, use={"CPU": 25})
    threads = advice(found, "OMP_NUM_THREADS")
    assert (threads.current, threads.to) == (2, 8)
    assert threads.factor == pytest.approx(1 / (1 - 0.9 * (1 - 2 / 8)))
    found = judged(job={"device": "cpu with 2 threads"}, use={"CPU": 99})
    assert advice(found, "OMP_NUM_THREADS") is None


def test_single_precision_on_a_gpu() -> None:
    found = judged(job=GPU, hyperparameters={"amp": "off"})
    assert advice(found, "amp").factor == pytest.approx(1 / (1 - 0.9 / 2))
    assert advice(judged(job=GPU), "amp") is None
    assert advice(judged(hyperparameters={"amp": "off"}), "amp") is None


def test_recommendations_that_cost_accuracy_come_last() -> None:
    found = judged(hyperparameters={"weights": "imagenet", "augment": "standard"})
    assert found.tone == "healthy"
    kinds = [each.kind for each in found.recommendations]
    assert kinds == ["price"] * len(kinds)
    assert advice(found, "freeze").factor == pytest.approx(1 / (1 - 0.6))
    size = advice(found, "image_size")
    assert size.to == 128
    assert size.factor == pytest.approx(1 / (1 - 0.9 * (1 - (128 / 224) ** 2)))


# Around training -------------------------------------------------------------------------------


def test_frequent_checkpoints() -> None:
    found = judged(
        durations=[1.0] * 600,
        outside={"checkpoint": 100},
        job={"training_ended": None},
        hyperparameters={"checkpoint_minutes": 1},
        epochs=[{"epoch": 1}],
    )
    longer = advice(found, "checkpoint_minutes")
    assert longer.current == 1
    assert longer.to == 17  # a share of 16.7 % is to become 1 %
    assert longer.factor > 1.1


def test_a_long_validation_is_reported_with_its_cost() -> None:
    found = advice(judged(outside={"evaluation": 8}), "validation_split")
    assert (found.current, found.to, found.kind) == (0.2, 0.1, "price")
    assert found.factor == pytest.approx(1 / (1 - 0.4 / 2))
    assert advice(judged(outside={"evaluation": 1}), "validation_split") is None


def test_compiling_that_takes_longer_than_it_saves() -> None:
    durations = [20.0] + [0.1] * 200
    found = advice(judged(durations=durations, hyperparameters={"compile": True}), "compile")
    assert found.to is False
    assert found.factor == pytest.approx(41.1 / (41.1 - 19.9))
    assert advice(judged(hyperparameters={"compile": True}), "compile") is None


def test_compiling_is_recommended_for_element_wise_operators_of_a_long_job() -> None:
    job = recorded(durations=[5.0] * 200, hyperparameters={"compile": False})
    operators = pd.DataFrame(
        [(0, "cpu", "aten::conv2d", 10, 6.0, 6.0), (0, "cpu", "aten::relu_", 10, 4.0, 4.0)],
        columns=["rank", "device", "name", "calls", "self_time", "total_time"],
    )
    found = advice(verdict(dataclasses.replace(job, operators=operators), ()), "compile")
    assert found.to is True
    assert found.factor == pytest.approx(1 / (1 - 0.9 * 0.4))


def test_a_machine_that_is_hardly_used() -> None:
    found = advice(judged(use={"CPU": 20, "memory": 30}), "instance_type")
    assert found.kind == "price"
    assert found.expected_gain == "the same training on about 30 % of the machine"


def test_more_workers_than_cores_only_use_memory() -> None:
    job = recorded(cores=2, hyperparameters={"workers": 8}, use={"CPU": 90})
    found = verdict(job, evaluate(job, parse_rules(PROFILER_RULES, ["Dataloader"])))
    workers = advice(found, "workers")
    assert (workers.current, workers.to, workers.factor) == (8, 2, None)
    assert workers.expected_gain == "the memory of 6 processes; steps stay as fast"


def test_epochs_after_the_best() -> None:
    epochs = [
        {"epoch": n, "validation:accuracy": 0.9 if n == 4 else 0.8, "validation:loss": 1.0}
        for n in range(1, 21)
    ]
    found = advice(judged(epochs=epochs), "early_stopping_patience")
    assert (found.current, found.to) == (0, 3)
    assert found.factor == pytest.approx(20 / 7)
    assert found.expected_gain == "13 of 20 epochs spared for the same model"


def test_a_job_that_mostly_starts_up_is_reported() -> None:
    found = judged(job={"started": 1_700_000_000.0 - 100}, durations=[0.1] * 20)
    assert any("98 % of the job, passed before the first step" in each for each in found.sentences)


# Learning --------------------------------------------------------------------------------------


def epoch(number: Any, train: Any, validation: Any) -> Any:
    return {
        "epoch": number, "train:loss": train, "validation:loss": validation,
        "validation:accuracy": 0.5,
    }  # fmt: skip


def test_overfitting_needs_the_next_stronger_regularisation() -> None:
    epochs = [epoch(1, 1.0, 1.0), epoch(2, 0.5, 0.8), epoch(3, 0.1, 1.6)]
    rules = [fired("Overfit")]
    found = judged(epochs=epochs, debug_rules=rules, hyperparameters={"augment": "standard"})
    assert found.tone == "troubled"
    assert found.sentences[0] == "Overfit fired once: it did."
    first = found.recommendations[0]
    assert (first.hyperparameter, first.current, first.to) == ("augment", "standard", "strong")
    assert "50 % lower: 0.8 was reached in epoch 2" in first.expected_gain
    found = judged(epochs=epochs, debug_rules=rules, hyperparameters={"augment": "strong"})
    assert found.recommendations[0].hyperparameter == "mixup"


@pytest.mark.parametrize(("losses", "to"), [([1.0] * 10 + [9.0] * 10, 1e-4), ([2.3] * 20, 3e-3)])
def test_a_loss_that_does_not_fall(losses: Any, to: float) -> None:
    found = judged(losses=losses, debug_rules=[fired("LossNotDecreasing")])
    rate = found.recommendations[0]
    assert (rate.hyperparameter, rate.current, rate.to) == ("learning_rate", 0.001, to)


def test_for_a_loss_that_did_fall_a_longer_comparison_is_recommended() -> None:
    rule = fired("LossNotDecreasing", "fired at step 9: rose by 6 %") | {
        "Parameters": {"num_steps": 10}
    }
    found = judged(losses=[2.0] * 10 + [1.0] * 20, debug_rules=[rule])
    assert found.tone != "troubled"
    told = "LossNotDecreasing fired at step 9: rose by 6 %; over the whole job it fell."
    assert told in found.sentences[1:]
    first = found.recommendations[0]
    assert (first.hyperparameter, first.to) == (
        "rule_parameters",
        "LossNotDecreasing_num_steps=20",
    )


def test_classes_confused_but_not_rare_need_no_class_weights() -> None:
    rule = fired("ClassImbalance", "fired at step 9: mostly mispredicted: class 3 (82 % of 55)")
    assert judged(debug_rules=[rule]).recommendations[0].kind == "price"


def test_a_loss_that_stalls_late_with_a_constant_learning_rate() -> None:
    losses = [2.3] * 5 + [0.5] * 40
    rules = [fired("LossNotDecreasing") | {"Parameters": {}}]
    found = judged(losses=losses, debug_rules=rules, hyperparameters={"schedule": "constant"})
    assert found.recommendations[0].to == "cosine"
    assert all(each.kind == "price" for each in judged(
        losses=losses, debug_rules=rules, hyperparameters={"schedule": "cosine"}
    ).recommendations)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "given", "name", "to"),
    [
        ("VanishingGradient", {"weights": "none"}, "weights", "imagenet"),
        ("VanishingGradient", {"arch": "vgg16"}, "arch", "vgg16_bn"),
        ("ExplodingTensor", {}, "gradient_clip", 1.0),
        ("ExplodingTensor", {"gradient_clip": 2.0}, "learning_rate", 0.00033),
        ("DeadRelu", {}, "warmup_epochs", 1),
        ("SaturatedActivation", {"warmup_epochs": 2}, "learning_rate", 0.00033),
        ("PoorWeightInitialization", {"weights": "none"}, "weights", "imagenet"),
        ("ClassImbalance", {}, "class_weights", "balanced"),
        ("UnchangedTensor", {"freeze": True}, "freeze", False),
        ("SimilarAcrossRuns", {"seed": 3}, "seed", 4),
    ],
)
def test_each_rule_names_a_hyperparameter(rule: str, given: Any, name: str, to: Any) -> None:
    found = judged(debug_rules=[fired(rule)], hyperparameters=given, losses=[1.0] * 20)
    first = found.recommendations[0]
    assert (first.kind, first.hyperparameter, first.to) == ("learning", name, to)
    assert first.rules == (rule,)
    assert f"{rule} fired once: it did" in first.why


def test_overtraining_recommends_fewer_epochs() -> None:
    epochs = [
        {"epoch": n, "validation:accuracy": min(n, 5) / 10, "validation:loss": 1.0}
        for n in range(1, 11)
    ]
    found = judged(
        epochs=epochs, debug_rules=[fired("Overtraining")], hyperparameters={"epochs": 10}
    )
    assert (advice(found, "epochs").current, advice(found, "epochs").to) == (10, 6)


# As a whole ------------------------------------------------------------------------------------


def test_a_healthy_job_is_reported_as_healthy() -> None:
    found = judged(use={"CPU": 95, "memory": 60})
    assert found.tone == "healthy"
    assert found.sentences[0].startswith("Healthy: 90 % of every training step is computing")
    assert "Of a training step of 100 ms, 60 % is the backward pass" in found.sentences[1]


def test_each_of_several_debugger_rules_is_reported_and_so_is_a_healthy_speed() -> None:
    found = judged(debug_rules=[fired("DeadRelu"), fired("Overfit", "fired at step 3: by 0.2")])
    assert found.sentences[0] == "DeadRelu and Overfit fired."
    assert found.sentences[1] == "DeadRelu fired once: it did."
    assert found.sentences[2] == "Overfit fired at step 3: by 0.2."
    assert found.sentences[3].startswith("The speed is healthy: 90 %")


def test_nothing_recorded() -> None:
    found = judged(durations=(), job={"started": None, "ended": None})
    assert found.tone == "unknown"
    assert found.sentences == ("Nothing was recorded, so there is nothing to judge.",)
    assert found.recommendations == ()


def test_no_steps_recorded() -> None:
    found = judged(durations=(), use={"CPU": 50})
    assert found.sentences[0].startswith("No training step was recorded")


def test_unequal_ranks_are_named() -> None:
    job = recorded(ranks=2)
    slow = (job.events["rank"] == 1) & job.events["phase"].isin(["forward", "backward"])
    job.events.loc[slow, "duration"] *= 1.5
    said = " ".join(verdict(job, ()).sentences)
    assert "rank 1 on algo-1 computes 135 ms a step where the mean is 112 ms" in said


def test_slow_steps_are_attributed_to_a_phase() -> None:
    job = recorded(durations=[0.1] * 195 + [1.0] * 5)
    said = " ".join(verdict(job, ()).sentences)
    assert "5 of 200 steps took longer than" in said
    assert "18 % of the training time, most of it the backward pass" in said


def test_rules_are_counted_and_every_recommendation_has_its_numbers() -> None:
    job = recorded(
        phases=waiting(0.5), job=GPU, use={"GPU": 40, "GPU memory": 20, "CPU": 30},
        hyperparameters={"workers": 1}, debug_rules=[fired("ClassImbalance", "3 of 10 classes")],
    )  # fmt: skip
    outcomes = evaluate(job, parse_rules(PROFILER_RULES, ["auto"]))
    found = verdict(job, outcomes)
    assert "Dataloader" in advice(found, "workers").rules
    assert any(each.startswith("Of 12 rules") for each in found.sentences)
    assert found.recommendations
    for each in found.recommendations:
        assert any(letter.isdigit() for letter in each.why + each.expected_gain)
        assert (each.factor is None) == (each.formula == "")
    told = found.as_json()
    assert told["recommendations"][0]["from"] == "none"


@pytest.mark.parametrize(
    ("freeze", "weights", "random"),
    [(True, "none", True), (True, "imagenet", False), (False, "none", False)],
)
def test_a_head_on_random_features_is_reported(freeze: bool, weights: str, random: bool) -> None:
    found = judged(hyperparameters={"freeze": freeze, "weights": weights})
    assert any("random features" in sentence for sentence in found.sentences) is random
