"""Whether each class of dbt's for these four features is run, or left out for a reason."""

import importlib
import inspect
from pathlib import Path
from pkgutil import iter_modules

FEATURES = ("basic", "incremental", "simple_seed", "simple_snapshot")

LEFT_OUT = {
    "BaseGetCatalogForSingleRelation": "the adapter does not have this method",
    "BaseSeedWithWrongDelimiter": "expects a seed with `;` to be refused; the adapter, which reads seeds by"
    " itself and uploads them, makes a table of one column of it on any server",
}


def has_tests(value: object) -> bool:
    """Tell whether a value is a class to run, and not only what others inherit from."""
    named = inspect.isclass(value) and value.__name__.startswith("Base")
    return named and any(name.startswith("test_") for name in dir(value))


def test_every_class_is_run_or_left_out_for_a_reason() -> None:
    """Compare the classes that dbt has with those that the modules of this folder run."""
    known: set[str] = set()
    for feature in FEATURES:
        package = importlib.import_module(f"dbt.tests.adapter.{feature}")
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            values = vars(importlib.import_module(module.name)).items()
            known |= {name for name, value in values if has_tests(value)}
    run: set[str] = set()
    for path in Path(__file__).parent.glob("adapter_*.py"):
        run |= {name for name, value in vars(importlib.import_module(path.stem)).items() if has_tests(value)}
    assert known - run == LEFT_OUT.keys()
