"""The classes of incremental models, with all strategies of the adapter."""
# ruff: noqa: F401

from typing import Any

import pytest
from dbt.tests.adapter.basic.test_incremental import (
    BaseIncremental,
    BaseIncrementalBadStrategy,
    BaseIncrementalNotSchemaChange,
)
from dbt.tests.adapter.incremental import test_incremental_microbatch as microbatch
from dbt.tests.adapter.incremental.test_incremental_merge_exclude_columns import BaseMergeExcludeColumns
from dbt.tests.adapter.incremental.test_incremental_on_schema_change import BaseIncrementalOnSchemaChange
from dbt.tests.adapter.incremental.test_incremental_predicates import BaseIncrementalPredicates
from dbt.tests.adapter.incremental.test_incremental_unique_id import BaseIncrementalUniqueKey


class BaseMicrobatch(microbatch.BaseMicrobatch):
    """Batches by time; DuckDB's moments are not written with `-0`."""

    @pytest.fixture(scope="class")
    def input_model_sql(self) -> str:
        """Return the model that the batches are of."""
        return str(microbatch._input_model_sql).replace("00-0'", "00'")

    @pytest.fixture(scope="class")
    def insert_two_rows_sql(self, project: Any) -> str:
        """Return the statement that adds two days."""
        return (
            f'INSERT INTO "{project.test_schema}".input_model (id, event_time) '
            "VALUES (4, TIMESTAMP '2020-01-04'), (5, TIMESTAMP '2020-01-05')"
        )
