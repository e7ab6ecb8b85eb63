"""Finding and creating custom rules; finding them runs none of their code."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container.rules import custom
from container.rules.requests import RuleError, RuleRequest

RULES = """
raise_if_run = 1 / 0  # finding rules must not run this


class Helper:
    pass


class GradientTooSmall(Rule):
    def __init__(self, base_trial, threshold="10", *, patience="1"):
        super().__init__(base_trial)

    def invoke_at_step(self, step):
        return False


class GradientTooLarge(GradientTooSmall):
    pass


class FromElsewhere(other.rules.Watching):
    pass


class Flexible(Rule):
    def __init__(self, base_trial, **parameters):
        pass

    def invoke_at_step(self, step):
        return False


class Forgot(Rule):
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rules.py"
    path.write_text(RULES)
    return path


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Remove the modules and search paths that a test added."""
    modules, paths = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("own_rules."):
            del sys.modules[name]
    sys.path[:] = paths


def asked(rule: str, **parameters: Any) -> RuleRequest:
    return RuleRequest(rule, rule, parameters)


def test_rules_are_the_classes_that_can_be_invoked(file: Path) -> None:
    found = custom.find(file)
    assert sorted(found) == ["Flexible", "FromElsewhere", "GradientTooLarge", "GradientTooSmall"]
    assert found["GradientTooSmall"].parameters == ("threshold", "patience")
    assert found["GradientTooLarge"].parameters is None
    assert found["Flexible"].parameters is None


def test_existing_and_built_in_rules_are_accepted(file: Path) -> None:
    asked_for = [asked("Overfit"), asked("GradientTooSmall", threshold="5", patience="2")]
    custom.check(file, [*asked_for, asked("Flexible", whatever="1")])
    custom.check(None, [asked("Overfit")])


def test_a_custom_rule_may_have_the_name_of_a_built_in_one(file: Path) -> None:
    request = RuleRequest("Overfit", "mine", {}, source="s3://bucket/mine.py")
    with pytest.raises(RuleError, match="expected a class 'Overfit'"):
        custom.check(file, [request])


def test_a_misspelt_rule_suggests_similar_ones(file: Path) -> None:
    with pytest.raises(RuleError) as caught:
        custom.check(file, [asked("GradientToSmall")])
    assert str(caught.value) == (
        f"{file}: expected a class 'GradientToSmall' with a method invoke_at_step: did you mean "
        "'GradientTooSmall' or 'GradientTooLarge'?"
    )


def test_a_misspelt_parameter_suggests_similar_ones(file: Path) -> None:
    with pytest.raises(RuleError, match=r"my_rules.py: rule GradientTooSmall: unknown parameter "):
        custom.check(file, [asked("GradientTooSmall", treshold="5")])


def test_a_class_without_the_method_is_not_a_rule(file: Path) -> None:
    with pytest.raises(RuleError, match="'Forgot' with a method invoke_at_step"):
        custom.check(file, [asked("Forgot")])


def test_a_rule_without_a_file_may_be_a_misspelt_built_in_one() -> None:
    with pytest.raises(RuleError, match="'Overfitt' is not built in.* did you mean 'Overfit'"):
        custom.check(None, [asked("Overfitt")])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"class Broken(:\n    pass\n", "line 1: expected a Python file with rules, found "),
        (b"\xff\xfe\x00", "expected a Python file with rules, found"),
        (b"a = 1\0", "expected a Python file with rules, found"),
        (b"", "expected a class 'Mine' with a method invoke_at_step: known are none"),
        (None, "expected a Python file with rules, found: No such file or directory"),
    ],
)
def test_a_file_that_is_not_python(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "rules.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuleError) as caught:
        custom.check(path, [asked("Mine")])
    assert str(caught.value).startswith(str(path))
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rule_files_are_found_in_a_folder_by_their_source_names(file: Path) -> None:
    shutil.copy(file, file.with_name("first.py"))
    first = RuleRequest("Flexible", "any", source="s3://bucket/code/first.py")
    custom.check(file.parent, [first])
    with pytest.raises(RuleError, match=r"second.py: .*No such file"):
        custom.check(file.parent, [replace(first, source="s3://bucket/code/second.py")])


def test_a_rule_is_created_from_text_parameters_and_may_import_files_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "limits_of_mine.py").write_text("FACTOR = 3\n")
    path = tmp_path / "rules.py"
    path.write_text(
        "from limits_of_mine import FACTOR\n"
        "class Mine:\n"
        "    def __init__(self, base_trial, action_str, limit='2'):\n"
        "        self.trial, self.action = base_trial, action_str\n"
        "        self.limit = FACTOR * int(limit)\n"
        "    def invoke_at_step(self, step):\n"
        "        return step > self.limit\n"
    )
    rule = custom.make(path, asked("Mine", limit="7"), "the trial")
    assert (rule.trial, rule.action, rule.limit) == ("the trial", "", 21)
    again = custom.make(path, asked("Mine"), "the trial")
    assert type(again) is type(rule)


def test_a_file_that_failed_is_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "rules.py"
    rule = "class Mine:\n    def invoke_at_step(self, step): pass\n"
    path.write_text(rule + "1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            custom.make(path, asked("Mine"), None)
