"""AWS's partitions: what begins ARNs and ends host names where a region is.

China, GovCloud and the ISO regions are worlds of their own; botocore knows them all.
"""

import functools
import re


def partition(region: str) -> str:
    """The partition a region is in, such as `aws`, `aws-cn` or `aws-us-gov`."""
    return _find(region)[0]


def domain(region: str) -> str:
    """What host names of a region end with, such as `amazonaws.com` or `c2s.ic.gov`."""
    return _find(region)[1]


@functools.cache
def _find(region: str) -> tuple[str, str]:
    from botocore.loaders import create_loader

    known = create_loader().load_data("partitions")["partitions"]
    for each in known:
        if region in each["regions"] or re.fullmatch(each["regionRegex"], region):
            return each["id"], each["outputs"]["dnsSuffix"]
    return "aws", "amazonaws.com"
