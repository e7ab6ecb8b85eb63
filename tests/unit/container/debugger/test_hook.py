from pathlib import Path

from tests.unit.container.debugger.training import random_data, settings_for, tiny_network, train_tiny


def test_x(tmp_path: Path) -> None:
    trial = train_tiny(tiny_network(), random_data(), 6, settings_for(tmp_path))
    assert trial.steps() == [0, 1, 2, 3, 4, 5]
