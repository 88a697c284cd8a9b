"""The classes of seeds."""
# ruff: noqa: F401

import shutil
from pathlib import Path
from typing import Any

import pytest
from dbt.tests.adapter.simple_seed import test_seed, test_seed_type_override
from dbt.tests.adapter.simple_seed.test_seed import (
    BaseSeedConfigFullRefreshOff,
    BaseSeedCustomSchema,
    BaseSeedParsing,
    BaseSeedSpecificFormats,
    BaseSeedWithEmptyDelimiter,
    BaseSeedWithUniqueDelimiter,
    BaseSimpleSeedEnabledViaConfig,
    BaseTestEmptySeed,
)
from dbt.tests.util import check_relations_equal, run_dbt


def check_refreshed(project: Any, *options: str) -> None:
    """Load a seed, and again with a full refresh: as in DuckDB, views of a table outlive it."""
    for arguments in ([], [*options]):
        assert len(run_dbt(["seed", *arguments])) == 1
        check_relations_equal(project.adapter, ["seed_expected", "seed_actual"])
    assert len(run_dbt(["run"])) == 1
    check_relations_equal(project.adapter, ["seed_expected", "models__downstream_from_seed_actual"])
    run_dbt(["seed", *options])
    check_relations_equal(project.adapter, ["seed_expected", "models__downstream_from_seed_actual"])


class BaseBasicSeedTests(test_seed.BaseBasicSeedTests):
    """Seeds as they are."""

    def test_simple_seed_full_refresh_flag(self, project: Any) -> None:
        """Refresh by the flag."""
        check_refreshed(project, "--full-refresh")


class BaseSeedConfigFullRefreshOn(test_seed.BaseSeedConfigFullRefreshOn):
    """Seeds that are configured to be refreshed."""

    def test_simple_seed_full_refresh_config(self, project: Any) -> None:
        """Refresh by the configuration."""
        check_refreshed(project)


class BaseSimpleSeedWithBOM(test_seed.BaseSimpleSeedWithBOM):
    """A seed that begins with a byte order mark; the file is in dbt's package."""

    @pytest.fixture(scope="class", autouse=True)
    def setUp(self, project: Any) -> None:
        """Put the seed into the project."""
        project.run_sql(test_seed.seeds.seeds__expected_sql)
        shutil.copy(
            Path(test_seed.__file__).parent / "seed_bom.csv", Path(project.project_root, "seeds/seed_bom.csv")
        )


SCHEMA = """
version: 2
seeds:
- name: seed_enabled
  columns:
  - {name: birthday, data_tests: [{column_type: {type: DATE}}]}
  - {name: seed_id, data_tests: [{column_type: {type: character varying(256)}}]}
- name: seed_tricky
  columns:
  - {name: seed_id, data_tests: [{column_type: {type: BIGINT}}]}
  - {name: seed_id_str, data_tests: [{column_type: {type: character varying(256)}}]}
  - {name: a_bool, data_tests: [{column_type: {type: BOOLEAN}}]}
  - {name: looks_like_a_bool, data_tests: [{column_type: {type: character varying(256)}}]}
  - {name: a_date, data_tests: [{column_type: {type: TIMESTAMP}}]}
  - {name: looks_like_a_date, data_tests: [{column_type: {type: character varying(256)}}]}
  - {name: relative, data_tests: [{column_type: {type: character varying(256)}}]}
  - {name: weekday, data_tests: [{column_type: {type: character varying(256)}}]}
"""


class BaseSimpleSeedColumnOverride(test_seed_type_override.BaseSimpleSeedColumnOverride):
    """Seeds whose columns have configured types, by the names that DuckDB has for them."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        """Return what the columns must be."""
        return {"schema.yml": SCHEMA}
