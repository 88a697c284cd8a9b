"""The basic classes: connection, tables, views, seeds, tests, docs, the methods of an adapter."""
# ruff: noqa: F401

from typing import Any

import pytest
from dbt.tests.adapter.basic import expected_catalog as catalog
from dbt.tests.adapter.basic import test_docs_generate as docs
from dbt.tests.adapter.basic.test_adapter_methods import BaseAdapterMethod
from dbt.tests.adapter.basic.test_base import BaseSimpleMaterializations
from dbt.tests.adapter.basic.test_empty import BaseEmpty
from dbt.tests.adapter.basic.test_ephemeral import BaseEphemeral
from dbt.tests.adapter.basic.test_generic_tests import BaseGenericTests
from dbt.tests.adapter.basic.test_singular_tests import BaseSingularTests
from dbt.tests.adapter.basic.test_singular_tests_ephemeral import BaseSingularTestsEphemeral
from dbt.tests.adapter.basic.test_table_materialization import BaseTableMaterialization
from dbt.tests.adapter.basic.test_validate_connection import BaseValidateConnection

TYPES = {
    "role": None,
    "id_type": "BIGINT",
    "text_type": "VARCHAR",
    "time_type": "TIMESTAMP",
    "view_type": "VIEW",
    "table_type": "BASE TABLE",
    "model_stats": catalog.no_stats(),
}
"""What DuckDB's types are called; tables have no owner."""


class BaseDocsGenerate(docs.BaseDocsGenerate):
    """The catalog that dbt documents."""

    @pytest.fixture(scope="class")
    def expected_catalog(self, project: Any) -> Any:
        """Return what the catalog must hold."""
        return catalog.base_expected_catalog(project, **TYPES)


class BaseDocsGenReferences(docs.BaseDocsGenReferences):
    """The catalog of models that refer to each other."""

    @pytest.fixture(scope="class")
    def expected_catalog(self, project: Any) -> Any:
        """Return what the catalog must hold."""
        return catalog.expected_references_catalog(project, bigint_type="BIGINT", **TYPES)
