"""System metrics as SageMaker keeps them: a JSON object a line, a file a minute and host.

`system/incremental/<YYYYMMDDHH>/<epoch of the full minute>.algo-N.json`, times in UTC; a line is
`{"Type":"cpu","Name":"cpu0","Dimension":"CPUUtilization","Value":4.76,"NodeId":"algo-1",
"Timestamp":1591160699.45}`.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from container.monitoring.profiler.machine import Metric


class MetricsFile:
    """One host's metrics, in one file after another.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
    """

    def __init__(self, root: Path, host: str) -> None:
        self._root, self._host = root, host
        self._file: int | None = None
        self._minute = 0
        self._texts: dict[tuple[str, str, str], str] = {}

    def write(self, metrics: Iterable[Metric], now: float) -> None:
        """Append a sample taken at `now` (unix s): one write, so that it is there as a whole.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        end = f',"NodeId":{json.dumps(self._host)},"Timestamp":{now:.6f}}}\n'
        text = "".join(
            f"{self._beginning(metric)}{round(metric.value, 2)}{end}" for metric in metrics
        )
        minute = int(now // 60 * 60)
        if self._file is None or minute != self._minute:
            self._open(minute)
        data = text.encode()
        while data and self._file is not None:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Twice is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, minute: int) -> None:
        """The file of a minute; once more if the clock was set back."""
        self.close()
        hour = time.strftime("%Y%m%d%H", time.gmtime(minute))
        path = self._root / "system" / "incremental" / hour / f"{minute}.{self._host}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file, self._minute = os.open(path, flags, 0o644), minute

    def _beginning(self, metric: Metric) -> str:
        key = (metric.kind, metric.name, metric.dimension)
        text = self._texts.get(key)
        if text is None:
            fields = dict(zip(("Type", "Name", "Dimension"), key, strict=True))
            beginning = json.dumps(fields, separators=(",", ":"))[:-1]
            text = self._texts[key] = f'{beginning},"Value":'
        return text
