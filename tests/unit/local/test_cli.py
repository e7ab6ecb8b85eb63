import subprocess
import sys

import pytest
from typer.testing import CliRunner

from local.cli import COMMANDS, app, load, main
from local.errors import UserError

HEAVY = (
    "boto3",
    "botocore",
    "sagemaker",
    "optuna",
    "plotly",
    "docker",
    "moto",
    "pydantic",
    "torch",
)


def test_help_lists_every_command_without_heavy_imports() -> None:
    script = (
        "import sys\n"
        "from local.cli import main\n"
        "status = main(['--help'])\n"
        f"print(status, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    for name, entry in COMMANDS.items():
        assert f" {name} " in done.stdout
        assert entry.summary in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"], prog_name="berth")
    assert done.exit_code == 0, done.output
    assert f"Example: {COMMANDS[name].example}"[:60] in " ".join(done.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_named_as_in_the_table(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_texts_have_no_line_breaks_within_paragraphs(name: str) -> None:
    command = load(name)
    for each in (command, *getattr(command, "commands", {}).values()):
        assert all("\n" not in part for part in each.help.split("\n\n")), each.help


def test_the_command_line_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.cli", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "berth train" in done.stdout


def test_a_typo_suggests_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


def raising(error: BaseException) -> object:
    def call(*_arguments: object, **_settings: object) -> None:
        raise error

    return call


def test_a_users_error_is_one_line_and_status_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.commands.options.shared.connect", raising(UserError("no region")))
    assert main(["jobs"]) == 1
    assert capsys.readouterr().err == "berth: no region\n"


def test_ctrl_c_prints_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.commands.options.shared.connect", raising(KeyboardInterrupt()))
    assert main(["jobs"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_unexpected_exception_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "local.commands.options.shared.connect", raising(ZeroDivisionError("a defect"))
    )
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["jobs"])
