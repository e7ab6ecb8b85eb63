"""The selection of a rule's tensors: those of some collections, or whose names match."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from container.rules.requests import RuleError

_BETWEEN = re.compile(r",(?![^({\[]*[)}\]])")
"""A comma between expressions, not one within a bracket such as `{1,2}`."""


@dataclass(frozen=True)
class Selection:
    """Collections and expressions; selects tensors that match any, or all if both are empty.

    Attributes:
        collections: names of collections.
        patterns: searched for anywhere in a tensor's name.
    """

    collections: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def read(
        cls,
        rule: str,
        *,
        collection_names: str | None = None,
        tensor_regex: str | None = None,
        regex_parameter: str = "tensor_regex",
        required: bool = False,
    ) -> "Selection":
        """Parse the selection from a rule's parameters.

        Args:
            rule: the rule's name, for the errors.
            collection_names: separated by commas.
            tensor_regex: regular expressions separated by commas.
            regex_parameter: what the rule calls `tensor_regex`.
            required: whether neither given is an error instead of every tensor.

        Raises:
            RuleError: an expression that is none; nothing given though something is required.
        """
        collections = tuple(filter(None, (n.strip() for n in (collection_names or "").split(","))))
        patterns = []
        for expression in filter(None, (p.strip() for p in _BETWEEN.split(tensor_regex or ""))):
            try:
                patterns.append(re.compile(expression))
            except re.error as error:
                raise RuleError(
                    f"rule {rule}: parameter {regex_parameter!r}: {expression!r} is not a regular "
                    f"expression: {error}"
                ) from None
        if required and not collections and not patterns:
            raise RuleError(
                f"rule {rule}: one of the parameters 'collection_names' and {regex_parameter!r} "
                "is required"
            )
        return cls(collections, tuple(patterns))

    def filter(self, names: Iterable[str], trial: Any) -> list[str]:
        """The selected ones among names of tensors.

        Args:
            names: names of tensors.
            trial: the smdebug trial whose collections are meant.
        """
        if not self.collections and not self.patterns:
            return list(names)
        patterns: list[str | re.Pattern[str]] = list(self.patterns)
        listed: set[str] = set()
        known = trial.collections()
        for collection in (known[name] for name in self.collections if name in known):
            patterns.extend(collection.include_regex)
            listed.update(collection.tensor_names)
        return [
            name
            for name in names
            if name in listed or any(re.search(pattern, name) for pattern in patterns)
        ]

    def __str__(self) -> str:
        """What is chosen, as the end of `a tensor that …`."""
        parts = [f"is in collection {name!r}" for name in self.collections]
        parts += [f"matches {pattern.pattern!r}" for pattern in self.patterns]
        return " or ".join(parts) or "is there"
