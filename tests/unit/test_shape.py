import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("flight_server", "client_examples", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
VAGUE_NAMES = {"utils", "helpers", "common", "base", "manager", "core", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_has_the_house_shape(path: Path) -> None:
    text = path.read_text()
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = [f"{node.name} in line {node.lineno}" for node in functions if _lines(node) > 40]
    assert len(text.splitlines()) <= 400
    assert long == []
    assert path.stem not in VAGUE_NAMES


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
