import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flight_server.testing import Server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_RUNNABLE = re.compile(r"<!-- runnable -->\n```(python|sh)\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")

BLOCKS = [
    pytest.param(language, code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (language, code) in enumerate(_RUNNABLE.findall(page.read_text()))
]
COMMANDS = {"python": [sys.executable, "-c"], "sh": ["sh", "-ec"]}


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_block_runs_as_it_stands(language: str, code: str, server: Server, tmp_path: Path) -> None:
    """The one thing replaced is the address of the server; commands are those beside this Python."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*COMMANDS[language], code.replace("grpc://127.0.0.1:31337", server.uri)],
        env=os.environ | {"PATH": tools},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_blocks_of_both_languages() -> None:
    assert {block.values[0] for block in BLOCKS} == set(COMMANDS)


def linked(page: Path) -> list[Path]:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    return [(page.parent / link).resolve() for link in links]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files(page: Path) -> None:
    assert [target for target in linked(page) if not target.exists()] == []


def test_the_readme_leads_to_every_page_and_names_every_package() -> None:
    readme = PAGES[0]
    assert set(PAGES[1:]) <= set(linked(readme))
    packages = {path.parent.name for path in (ROOT / "flight_server").glob("*/__init__.py")}
    assert {name for name in packages if f"{name}/`" not in readme.read_text()} == set()
