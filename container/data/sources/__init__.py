"""Data sets to write as image folders, {train,...}/<class>/<image>.

python -m container.data.sources digits DEST
"""

from container.data.sources.base import DatasetSource
from container.data.sources.datasets import Cifar10, Digits, Dogs
from container.data.sources.folder import Folder
from container.data.sources.labels import Labels

SOURCES: dict[str, type[DatasetSource]] = {
    "digits": Digits,
    "cifar10": Cifar10,
    "dogs": Dogs,
    "folder": Folder,
    "labels": Labels,
}

__all__ = ["SOURCES", "Cifar10", "DatasetSource", "Digits", "Dogs", "Folder", "Labels"]
