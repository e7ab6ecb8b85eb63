from pathlib import Path

import pytest

from local.emulator.training.channels import BadChannel
from local.emulator.training.own_rules import fetch_own_rules, own_rules
from tests.unit.local.emulator.fakes import FakeObjects
from tests.unit.local.emulator.training.test_rules import configuration

REQUEST = {
    "DebugRuleConfigurations": [
        configuration("Overfit"),
        configuration("any/thing", source_s3_uri="s3://bucket/rules/mine.py"),
    ],
    "ProfilerRuleConfigurations": [{"RuleConfigurationName": "bare", "RuleEvaluatorImage": "any"}],
}


def test_a_rules_file_is_named_as_in_s3(tmp_path: Path) -> None:
    objects = FakeObjects(tmp_path / "s3")
    objects.add("rules/mine.py", "class Mine: ...")
    folder = tmp_path / "tree" / "rules"
    fetch_own_rules(objects, REQUEST, folder)
    assert [path.name for path in folder.iterdir()] == ["mine.py"]
    (folder / "mine.py").write_text("changed by a container")
    assert objects.read("bucket", "rules/mine.py") == b"class Mine: ..."
    assert [source for _, source in own_rules(REQUEST)] == ["s3://bucket/rules/mine.py"]


def test_a_deleted_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        BadChannel, match="rule any/thing: no such object: s3://bucket/rules/mine.py"
    ):
        fetch_own_rules(FakeObjects(tmp_path / "s3"), REQUEST, tmp_path / "rules")


def test_without_such_rules_there_is_no_folder(tmp_path: Path) -> None:
    fetch_own_rules(FakeObjects(tmp_path / "s3"), {}, tmp_path / "rules")
    assert not (tmp_path / "rules").exists()
