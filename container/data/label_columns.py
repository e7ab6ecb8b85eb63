"""The usual names of what holds an image's label, in tables, manifests and JSON beside images."""

import re

LABELS = (
    "classname", "labelname", "categoryname", "class", "label", "category", "labels", "classes",
    "target", "species", "breed", "y", "tag", "diagnosis", "dx", "type", "variety", "annotation",
    "classification", "groundtruth", "truth", "classid", "labelid", "categoryid", "cls",
)  # fmt: skip
"""Bare names of columns and keys, those that hold a class's name before those of numbers."""


def bare(name: str) -> str:
    """A column's name without what sets its words apart: `Class_Name` is classname."""
    return re.sub(r"[\s._-]+", "", name.casefold())


def whole(label: str) -> str:
    """A label as a class's name: "3.000000", as im2rec writes it, is class 3."""
    return re.sub(r"^(\d+)\.0+$", r"\1", label.strip())
