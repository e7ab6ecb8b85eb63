"""smdebug's own readers, which must read our files like SageMaker's."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from smdebug.profiler.algorithm_metrics_reader import LocalAlgorithmMetricsReader
    from smdebug.profiler.analysis.utils.merge_timelines import MergedTimeline
    from smdebug.profiler.analysis.utils.pandas_data_analysis import PandasFrameAnalysis
    from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame
    from smdebug.profiler.analysis.utils.pytorch_dataloader_analysis import PT_dataloader_analysis
    from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

__all__ = ["MergedTimeline", "PT_dataloader_analysis", "PandasFrame", "PandasFrameAnalysis"]

FAR = 2**53
"""Microseconds since 1970 after every test."""


def framework_events(root: Path) -> list[Any]:
    return LocalAlgorithmMetricsReader(str(root)).get_events(0, FAR)


def system_events(root: Path) -> list[Any]:
    return LocalSystemMetricsReader(str(root)).get_events(0, FAR)


def frames(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = PandasFrame(str(root))
    return frame.get_all_system_metrics(), frame.get_all_framework_metrics()
