from smdebug.core.modes import ModeKeys

from container.monitoring.debugger.rules.overfitting import EvaluationLosses

TRAIN, EVAL = ModeKeys.TRAIN, ModeKeys.EVAL


def test_an_evaluation_ends_when_training_continues() -> None:
    run = EvaluationLosses()
    assert run.add(TRAIN, [4.0], 0) is None
    assert run.add(TRAIN, [2.0], 1) is None
    assert run.add(EVAL, [5.0], 2) is None
    assert run.add(EVAL, [7.0], 2) is None
    assert run.add(TRAIN, [1.0], 2) == (3.0, 6.0)
    assert run.end() is None, "nothing was evaluated since"


def test_training_steps_between_them_separate_evaluations() -> None:
    run = EvaluationLosses()
    run.add(TRAIN, [2.0], 0)
    run.add(EVAL, [5.0], 10)
    assert run.add(EVAL, [7.0], 20) == (2.0, 5.0)
    assert run.end() == (2.0, 7.0), "the training loss is the last that is known"
    assert run.end() is None


def test_without_training_steps_there_is_no_training_loss() -> None:
    run = EvaluationLosses()
    run.add(EVAL, [5.0], 0)
    assert run.end() == (None, 5.0)
