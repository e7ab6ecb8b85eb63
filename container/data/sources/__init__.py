"""Where image folders come from; each reader writes the same layout, {train,...}/<class>/<image>.

python -m container.data.sources digits DEST
"""

from container.data.sources.base import Source
from container.data.sources.cifar10 import Cifar10
from container.data.sources.digits import Digits
from container.data.sources.dogs import Dogs
from container.data.sources.folder import Folder
from container.data.sources.labels import Labels

SOURCES: dict[str, type[Source]] = {
    "digits": Digits,
    "cifar10": Cifar10,
    "dogs": Dogs,
    "folder": Folder,
    "labels": Labels,
}

__all__ = ["SOURCES", "Cifar10", "Digits", "Dogs", "Folder", "Labels", "Source"]
