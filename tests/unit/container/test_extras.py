import pytest

from container import extras
from container.extras import DISTRIBUTION, extra_missing, module_missing

LINES = [
    'optuna>=5; extra == "report"',
    'optuna>=5; extra == "tuning"',
    'torch==2.14.1; extra == "image"',
    'pillow; extra == "serve"',
    'PyYAML ; extra == "local"',
    'moto[iam]>=5.2; extra == "local"',
    'pytest; extra == "dev"',
]


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "requires", lambda _name: LINES)


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "image"),
        ("torch.nn.functional", "image"),
        ("optuna", "tuning"),
        ("PIL", "serve"),
        ("yaml", "local"),
        ("moto.server", "local"),
    ],
)
def test_a_missing_module_is_named_with_the_smallest_extra_that_has_it(
    module: str, extra: str
) -> None:
    line = module_missing(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert line is not None
    assert line.startswith(f"{module.partition('.')[0]} is not installed")
    assert line.endswith(f"pip install '{DISTRIBUTION}[{extra}]'")


@pytest.mark.parametrize("module", ["nowhere", "pytest", None])
def test_a_missing_module_that_no_extra_has_is_a_defect(module: str | None) -> None:
    assert module_missing(ModuleNotFoundError("No module", name=module)) is None


def test_missing_modules_are_one_line() -> None:
    assert "\n" not in extra_missing("a thing", "local")
