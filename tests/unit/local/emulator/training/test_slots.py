from local.emulator.training.slots import Slots


def test_who_comes_when_all_places_are_taken_waits_its_turn() -> None:
    slots, granted = Slots(1), []
    grants = {name: (lambda name=name: granted.append(name)) for name in "abc"}
    for name in "abc":
        slots.request(grants[name])
    assert granted == ["a"]
    slots.give_back(grants["a"])
    assert granted == ["a", "b"]
    slots.give_back(grants["b"])
    assert granted == ["a", "b", "c"]


def test_who_stops_waiting_takes_no_place() -> None:
    slots, granted = Slots(1), []
    grants = {name: (lambda name=name: granted.append(name)) for name in "abcd"}
    for name in "abc":
        slots.request(grants[name])
    slots.give_back(grants["b"])
    slots.give_back(grants["a"])
    slots.give_back(grants["c"])
    slots.request(grants["d"])
    assert granted == ["a", "c", "d"]
