import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from container.fit.linear.probes import STRENGTHS, FeatureTable
from tests.unit.container.fit.synthetic import clouds


def standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0)


@pytest.mark.parametrize(("per_class", "width"), [(60, 12), (10, 200)])
def test_a_probe_matches_scikit_learns_logistic_regression(per_class: int, width: int) -> None:
    features = clouds(per_class, width=width, spread=3)
    table = FeatureTable(features.values, features.labels, 3)
    solution = table.solve((0.1, 0.01), iterations=400)
    for at, strength in enumerate((0.1, 0.01)):
        exact = LogisticRegression(C=1 / (strength * len(features)), tol=1e-8, max_iter=5000)
        scaled = standardized(features.values.astype(np.float64))
        expected = exact.fit(scaled, features.labels).predict_log_proba(scaled)
        logits = torch.from_numpy(solution.probe(0, at).logits(features.values))
        np.testing.assert_allclose(logits.log_softmax(1).numpy(), expected, atol=5e-3)


def test_each_mask_is_fitted_to_its_images_only() -> None:
    features = clouds(40, spread=4)
    masks = np.random.default_rng(1).random((2, len(features))) < 0.7
    solution = FeatureTable(features.values, features.labels, 3).solve((0.03,), masks, 500)
    scaled = standardized(features.values.astype(np.float64))
    for at, mask in enumerate(masks):
        exact = LogisticRegression(C=1 / (0.03 * mask.sum()), tol=1e-8, max_iter=5000)
        exact.fit(scaled[mask], features.labels[mask])
        logits = torch.from_numpy(solution.logits(at)[0])
        np.testing.assert_allclose(
            logits.softmax(1).numpy(), exact.predict_proba(scaled), atol=5e-3
        )


def test_a_folded_probe_gives_the_same_logits_as_its_solution() -> None:
    features = clouds(20)
    solution = FeatureTable(features.values, features.labels, 3).solve()
    folded = solution.probe(0, 2)
    assert folded.strength == STRENGTHS[2]
    np.testing.assert_allclose(
        folded.logits(features.values), solution.logits(0)[2], atol=1e-2, rtol=1e-3
    )


def test_a_constant_feature_has_no_weight() -> None:
    features = clouds(20)
    values = features.values.copy()
    values[:, 3] = 4.25
    probe = FeatureTable(values, features.labels, 3).solve((0.01,)).probe(0, 0)
    assert torch.isfinite(probe.weight).all()
    assert (probe.weight[:, 3] == 0).all()


def test_a_class_without_images_in_a_mask_is_not_predicted() -> None:
    features = clouds(20)
    solution = FeatureTable(features.values, features.labels, 3).solve(
        (0.1,), (features.labels != 2)[None]
    )
    logits = solution.logits(0)[0]
    assert np.isfinite(logits).all()
    assert not (logits[features.labels != 2].argmax(1) == 2).any()


def test_solving_masks_in_parts_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clouds(15)
    masks = np.random.default_rng(2).random((5, len(features))) < 0.8
    table = FeatureTable(features.values, features.labels, 3)
    together = table.solve((0.1, 0.01), masks)
    monkeypatch.setattr("container.fit.linear.probes.LARGEST", 2 * len(features) * 2 * 3)
    apart = table.solve((0.1, 0.01), masks)
    torch.testing.assert_close(together.weights, apart.weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.biases, apart.biases, atol=1e-4, rtol=1e-4)
