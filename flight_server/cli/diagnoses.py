"""The texts of the demo: all diagnoses of ICD-10-CM, from the package simple-icd-10-cm.

The classification is a work of the National Center for Health Statistics (United States, public domain), the
package is MIT.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa

from flight_server.errors import FailedPreconditionError


def read_diagnoses() -> tuple[pa.Table, pa.Table]:
    """Return the diagnoses (code, text, chapter) and the chapters (chapter, title).

    Raises FailedPreconditionError when the package with the data is not installed.
    """
    root = ElementTree.parse(_file()).getroot()  # noqa: S314 - a file of a package that is pinned
    chapters = [
        (int(_text(chapter, "name")), _text(chapter, "desc"), chapter) for chapter in root.findall("chapter")
    ]
    rows = [
        (_text(diagnosis, "name"), _text(diagnosis, "desc"), number)
        for number, _, chapter in chapters
        for diagnosis in chapter.iter("diag")
    ]
    codes, texts, numbers = zip(*rows, strict=True)
    return (
        pa.table({"code": codes, "text": texts, "chapter": numbers}),
        pa.table({"chapter": [each[0] for each in chapters], "title": [*_titles(chapters)]}),
    )


def _titles(chapters: list[tuple[int, str, ElementTree.Element]]) -> Iterator[str]:
    """Yield titles without the codes behind them."""
    for _, title, _ in chapters:
        yield title.rpartition(" (")[0] or title


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""


def _file() -> Path:
    """Find the package's file without importing it, which would read all of it."""
    spec = find_spec("simple_icd_10_cm")
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    for folder in folders:
        for found in Path(folder, "data").glob("*tabular*.xml"):
            return found
    raise FailedPreconditionError("the demo needs its texts: pip install 'flight-server[demo]'")
