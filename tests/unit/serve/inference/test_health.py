from serve.inference.health import Health, State


def test_the_status_names_the_current_state() -> None:
    health = Health()
    assert health.status()["status"] == "STARTING"
    health.move(State.LOADING, "reading\n  the model")
    assert health.status() == {"status": "LOADING", "detail": "reading the model"}
    assert not health.ready
    health.move(State.READY)
    assert health.status() == {"status": "READY"}
    assert health.ready


def test_the_first_failure_is_kept() -> None:
    health = Health()
    health.move(State.FAILED, "no weights")
    health.move(State.READY)
    health.move(State.FAILED, "something that came of it")
    assert health.status() == {"status": "FAILED", "detail": "no weights"}
