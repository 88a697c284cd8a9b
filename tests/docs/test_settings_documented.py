import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from flight_server.config import Settings, load
from flight_server.settings.buckets import BucketSettings
from flight_server.settings.embedders import EmbedderSettings

ROOT = Path(__file__).parents[2]


def names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        for kind in nested if name not in ("buckets", "embedders") else ():
            yield from names(kind, f"{prefix}{name}.")
        if not nested or name in ("buckets", "embedders"):
            yield prefix + name


def test_every_setting_is_in_the_reference_and_no_other() -> None:
    reference = (ROOT / "docs/reference/settings.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", reference, re.MULTILINE))
    assert documented == {*names(Settings), *BucketSettings.model_fields, *EmbedderSettings.model_fields}


def test_every_setting_is_in_the_example_file() -> None:
    example = (ROOT / "conf/server.toml").read_text()
    named = (*BucketSettings.model_fields, *EmbedderSettings.model_fields)
    keys = {name.rpartition(".")[2] for name in (*names(Settings), *named)}
    single = keys - {"buckets", "embedders"}
    missing = [key for key in single if not re.search(rf"^(# )?{key} = ", example, re.MULTILINE)]
    assert missing == []


def test_example_file_loads_to_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(ROOT / "conf/server.toml", {}).model_dump() == Settings().model_dump()
