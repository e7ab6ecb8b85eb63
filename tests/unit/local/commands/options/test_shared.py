from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from local.commands.options.shared import CommonOptions, pairs, with_common
from local.errors import UserError


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    for name in ("BERTH_WHERE", "BERTH_ROLE", "BERTH_BUCKET", "BERTH_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    return []


def call(given: list[Any], *arguments: str) -> Any:
    @with_common
    def command(
        common: CommonOptions, name: Annotated[str, typer.Argument()], *, deep: bool = False
    ) -> None:
        """Print the given options."""
        given.append((common, name, deep))

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments)


def test_without_options_everything_is_local(given: list[Any]) -> None:
    done = call(given, "thing")
    assert done.exit_code == 0, done.output
    assert given == [(CommonOptions(), "thing", False)]


def test_every_shared_option(given: list[Any]) -> None:
    done = call(
        given,
        *("thing", "--deep", "--where", "aws", "--image-uri", "image", "--role", "role"),
        *("--bucket", "bucket", "--region", "eu-west-1", "--tags", "a=b", "--tags", "c=d=e"),
        *("--plan", "--executor", "process"),
    )
    assert done.exit_code == 0, done.output
    common = CommonOptions(
        where="aws",
        image_uri="image",
        role="role",
        bucket="bucket",
        region="eu-west-1",
        tags=["a=b", "c=d=e"],
        plan=True,
        executor="process",
    )
    assert given == [(common, "thing", True)]


def test_the_environment_sets_target_and_account(
    given: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_WHERE", "aws")
    monkeypatch.setenv("BERTH_ROLE", "jobs")
    assert call(given, "thing").exit_code == 0
    assert (given[0][0].where, given[0][0].role) == ("aws", "jobs")


def test_another_target_is_refused(given: list[Any]) -> None:
    done = call(given, "thing", "--where", "azure")
    assert done.exit_code == 2
    assert "azure" in done.output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["a"], "--tags: found 'a', expected name=value"),
        (["=b"], "--tags: found '=b', expected name=value"),
        (["a=1", "a=2"], "--tags: found 'a' twice, expected it once"),
    ],
)
def test_invalid_pairs_are_refused(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as refused:
        pairs(words, "--tags")
    assert str(refused.value) == line
