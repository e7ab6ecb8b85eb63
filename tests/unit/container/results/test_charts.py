from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from container.results import charts


def test_wrong_predictions_are_kept_as_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    real = Axes.imshow

    def imshow(axes: Axes, image: np.ndarray, **options: Any) -> Any:
        shapes.append(image.shape)
        return real(axes, image, **options)

    monkeypatch.setattr(Axes, "imshow", imshow)
    worst: list[dict[str, Any]] = []
    for name, size in (("wide.png", (1200, 300)), ("high.jpg", (90, 900)), ("small.gif", (20, 10))):
        Image.new("RGB", size, "red").save(tmp_path / name)
        worst.append({"path": name, "label": "a", "predicted": "b", "probability": 0.9})
    images = [(tmp_path / mistake["path"]).read_bytes() for mistake in worst]
    assert charts.draw_worst(images, worst, tmp_path) == tmp_path / "worst.png"
    assert shapes == [(64, 256, 3), (256, 26, 3), (10, 20, 3)]
