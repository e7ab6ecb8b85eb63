from local.emulator.training.concurrency import ConcurrencyLimit


def test_jobs_above_the_limit_wait_in_order() -> None:
    limit, granted = ConcurrencyLimit(1), []
    grants = {name: (lambda name=name: granted.append(name)) for name in "abc"}
    for name in "abc":
        limit.acquire(grants[name])
    assert granted == ["a"]
    limit.release(grants["a"])
    assert granted == ["a", "b"]
    limit.release(grants["b"])
    assert granted == ["a", "b", "c"]


def test_a_job_that_stops_waiting_takes_no_place() -> None:
    limit, granted = ConcurrencyLimit(1), []
    grants = {name: (lambda name=name: granted.append(name)) for name in "abcd"}
    for name in "abc":
        limit.acquire(grants[name])
    limit.release(grants["b"])
    limit.release(grants["a"])
    limit.release(grants["c"])
    limit.acquire(grants["d"])
    assert granted == ["a", "c", "d"]
