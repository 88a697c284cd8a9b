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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files(page: Path) -> None:
    targets = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []
