"""AWS partitions: the start of a region's ARNs and the end of its host names.

China, GovCloud and the ISO regions are partitions of their own; botocore has the list.
"""

import functools
import re

DEFAULT = ("aws", "amazonaws.com")
"""Used for a name that matches no region."""


def partition(region: str) -> str:
    """The partition of a region, such as `aws`, `aws-cn` or `aws-us-gov`."""
    return (_find(region) or DEFAULT)[0]


def domain(region: str) -> str:
    """The DNS suffix of a region, such as `amazonaws.com` or `c2s.ic.gov`."""
    return (_find(region) or DEFAULT)[1]


def is_region(region: str) -> bool:
    """Whether the name is a known region or matches a partition's pattern for regions."""
    return _find(region) is not None


@functools.cache
def _find(region: str) -> tuple[str, str] | None:
    from botocore.loaders import create_loader

    known = create_loader().load_data("partitions")["partitions"]
    for each in known:
        if region in each["regions"] or re.fullmatch(each["regionRegex"], region):
            return each["id"], each["outputs"]["dnsSuffix"]
    return None
