"""AWS's partitions: what begins ARNs and ends host names where a region is.

China, GovCloud and the ISO regions are worlds of their own; botocore knows them all.
"""

import functools
import re

DEFAULT = ("aws", "amazonaws.com")
"""Where a name of no region is taken to be."""


def partition(region: str) -> str:
    """The partition a region is in, such as `aws`, `aws-cn` or `aws-us-gov`."""
    return (_find(region) or DEFAULT)[0]


def domain(region: str) -> str:
    """What host names of a region end with, such as `amazonaws.com` or `c2s.ic.gov`."""
    return (_find(region) or DEFAULT)[1]


def is_region(region: str) -> bool:
    """Whether AWS could have a region of this name."""
    return _find(region) is not None


@functools.cache
def _find(region: str) -> tuple[str, str] | None:
    from botocore.loaders import create_loader

    known = create_loader().load_data("partitions")["partitions"]
    for each in known:
        if region in each["regions"] or re.fullmatch(each["regionRegex"], region):
            return each["id"], each["outputs"]["dnsSuffix"]
    return None
