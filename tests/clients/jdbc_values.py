"""What JDBC must say of the server: every method of DatabaseMetaData, and a value of every type."""

from typing import Any


def _names(text: str) -> list[str]:
    return text.split()


TRUE = _names("""
    allProceduresAreCallable allTablesAreSelectable isCatalogAtStart nullPlusNonNullIsNull
    nullsAreSortedAtEnd storesUpperCaseIdentifiers supportsANSI92EntryLevelSQL
    supportsANSI92IntermediateSQL supportsBatchUpdates supportsCatalogsInDataManipulation
    supportsCatalogsInProcedureCalls supportsCatalogsInTableDefinitions supportsColumnAliasing
    supportsConvert supportsConvert/2 supportsCoreSQLGrammar supportsCorrelatedSubqueries
    supportsDataManipulationTransactionsOnly supportsExpressionsInOrderBy supportsExtendedSQLGrammar
    supportsGroupBy supportsGroupByBeyondSelect supportsGroupByUnrelated supportsLikeEscapeClause
    supportsLimitedOuterJoins supportsMinimumSQLGrammar supportsMixedCaseQuotedIdentifiers
    supportsNamedParameters supportsNonNullableColumns supportsOrderByUnrelated supportsOuterJoins
    supportsResultSetConcurrency supportsResultSetType supportsSchemasInDataManipulation
    supportsSchemasInTableDefinitions supportsSubqueriesInComparisons supportsSubqueriesInExists
    supportsSubqueriesInIns supportsSubqueriesInQuantifieds supportsTableCorrelationNames
    supportsTransactionIsolationLevel supportsTransactions supportsUnion supportsUnionAll
""")
"""Some are the drivers' own words whatever a server says, such as `storesUpperCaseIdentifiers`."""

FALSE = _names("""
    autoCommitFailureClosesAllResultSets dataDefinitionCausesTransactionCommit
    dataDefinitionIgnoredInTransactions doesMaxRowSizeIncludeBlobs generatedKeyAlwaysReturned isReadOnly
    locatorsUpdateCopy nullsAreSortedAtStart nullsAreSortedHigh nullsAreSortedLow
    storesLowerCaseIdentifiers storesLowerCaseQuotedIdentifiers storesMixedCaseIdentifiers
    storesMixedCaseQuotedIdentifiers storesUpperCaseQuotedIdentifiers supportsANSI92FullSQL
    supportsAlterTableWithAddColumn supportsAlterTableWithDropColumn supportsCatalogsInIndexDefinitions
    supportsCatalogsInPrivilegeDefinitions supportsDataDefinitionAndDataManipulationTransactions
    supportsDifferentTableCorrelationNames supportsFullOuterJoins supportsGetGeneratedKeys
    supportsIntegrityEnhancementFacility supportsMixedCaseIdentifiers supportsMultipleOpenResults
    supportsMultipleResultSets supportsMultipleTransactions supportsOpenCursorsAcrossCommit
    supportsOpenCursorsAcrossRollback supportsOpenStatementsAcrossCommit
    supportsOpenStatementsAcrossRollback supportsPositionedDelete supportsPositionedUpdate
    supportsRefCursors supportsSavepoints supportsSchemasInIndexDefinitions
    supportsSchemasInPrivilegeDefinitions supportsSchemasInProcedureCalls supportsSelectForUpdate
    supportsSharding supportsStatementPooling supportsStoredFunctionsUsingCallSyntax
    supportsStoredProcedures usesLocalFilePerTable usesLocalFiles
""")
"""`supportsFullOuterJoins`: the drivers read the ordinal that the specification asks for as a bit mask."""

EMPTY = _names("""
    getAttributes getBestRowIdentifier getClientInfoProperties getColumnPrivileges getCrossReference
    getExportedKeys getFunctionColumns getFunctions getImportedKeys getIndexInfo getPrimaryKeys
    getProcedureColumns getProcedures getPseudoColumns getSuperTables getSuperTypes getTablePrivileges
    getTypeInfo getUDTs getVersionColumns
""")
"""Results without rows; the drivers ask the server for the keys only."""

NO_LIMIT = _names("""
    getMaxBinaryLiteralLength getMaxCatalogNameLength getMaxCharLiteralLength getMaxColumnNameLength
    getMaxColumnsInGroupBy getMaxColumnsInIndex getMaxColumnsInOrderBy getMaxColumnsInSelect
    getMaxCursorNameLength getMaxIndexLength getMaxProcedureNameLength getMaxRowSize getMaxStatements
    getMaxTablesInSelect getMaxUserNameLength getMaxLogicalLobSize
""")

NOT_IN_THE_DRIVERS = _names("""
    deletesAreDetected insertsAreDetected othersDeletesAreVisible othersInsertsAreVisible
    othersUpdatesAreVisible ownDeletesAreVisible ownInsertsAreVisible ownUpdatesAreVisible
    supportsResultSetHoldability updatesAreDetected
""")
"""They throw by themselves, without asking the server."""

SCHEMAS = ["primary", "profile:user", "sys", "testing"]

METADATA: dict[str, Any] = {
    **dict.fromkeys(TRUE, True),
    **dict.fromkeys(FALSE, False),
    **{name: [] for name in EMPTY},
    **dict.fromkeys(NO_LIMIT, 0),
    "getMaxColumnsInTable": 10_000,
    "getMaxConnections": 10_000,
    "getMaxSchemaNameLength": 127,
    "getMaxStatementLength": 16 << 20,
    "getMaxTableNameLength": 255,
    # Repeatable read, as the specification numbers it.
    "getDefaultTransactionIsolation": 3,
    "getJDBCMajorVersion": 4,
    "getJDBCMinorVersion": 1,
    "getResultSetHoldability": 1,
    "getSQLStateType": 2,
    "getCatalogSeparator": ".",
    "getCatalogTerm": "catalog",
    "getDatabaseProductName": "flight-server",
    "getDriverName": "Arrow Flight SQL JDBC Driver Core",
    "getExtraNameCharacters": "$",
    "getIdentifierQuoteString": '"',
    "getProcedureTerm": "procedure",
    "getSchemaTerm": "schema",
    "getSearchStringEscape": "\\",
    "getUserName": None,
    "getConnection": "the connection",
    "getRowIdLifetime": "ROWID_UNSUPPORTED",
    "getCatalogs": [{"TABLE_CAT": "lakehouse"}],
    "getSchemas": [{"TABLE_SCHEM": name, "TABLE_CATALOG": "lakehouse"} for name in SCHEMAS],
    "getSchemas/2": [{"TABLE_SCHEM": name, "TABLE_CATALOG": "lakehouse"} for name in SCHEMAS],
    "schemas like test%": [{"TABLE_SCHEM": "testing", "TABLE_CATALOG": "lakehouse"}],
    "tables of no catalog": [],
}

LISTS = {
    "getSQLKeywords": {"select", "qualify", "pivot"},
    "getNumericFunctions": {"abs", "sqrt"},
    "getStringFunctions": {"lower", "concat"},
    "getSystemFunctions": {"current_schema", "version"},
    "getTimeDateFunctions": {"date_trunc", "age"},
}
"""Some of what each list must hold."""

TABLES = {
    "tables like peo%": [("testing", "people")],
    "tables of type BASE TABLE": [("testing", "animals"), ("testing", "people")],
    "tables with an escaped name": [("primary", "a_b")],
}

COLUMNS = [
    ("flag", "BOOLEAN", 16, 1, None),
    ("tiny", "TINYINT", -6, 3, 0),
    ("small", "SMALLINT", 5, 5, 0),
    ("number", "INTEGER", 4, 10, 0),
    ("big", "BIGINT", -5, 19, 0),
    ("ratio", "DOUBLE", 8, 15, None),
    ("price", "DECIMAL(9,2)", 3, 9, 2),
    ("word", "VARCHAR", 12, 65_536, None),
    ("data", "BLOB", -3, 65_536, None),
    ("born", "DATE", 91, 10, 0),
    ("at", "TIMESTAMP", 93, 26, 6),
    ("zoned", "TIMESTAMP WITH TIME ZONE", 2014, 32, 6),
    ("tags", "VARCHAR[]", 2003, None, None),
    ("pair", "STRUCT(x INTEGER, y VARCHAR)", 2000, None, None),
]
"""Name, type, JDBC type, size and digits of the columns of every_type."""

BINDS = {
    "BOOLEAN": (16, "true"),
    "TINYINT": (-6, "-7"),
    "UTINYINT": (-6, "255"),
    "SMALLINT": (5, "-700"),
    "USMALLINT": (5, "65535"),
    "INTEGER": (4, "-70000"),
    "UINTEGER": (4, "4294967295"),
    "BIGINT": (-5, "-9223372036854775808"),
    "UBIGINT": (-5, "9223372036854775807"),
    "HUGEINT": (-5, "9223372036854775807"),
    "FLOAT": (6, "1.5"),
    "DOUBLE": (8, "-2.25"),
    "DECIMAL(9,2)": (3, "1234567.89"),
    "DECIMAL(38,10)": (3, "-1234567890123456789012345678.0123456789"),
    "VARCHAR": (12, "héllo 🦆 'quoted'"),
    "BLOB": (-3, r"\x00\x01\xFF"),
    "DATE": (91, "2024-02-29"),
    "TIME": (92, "13:14:15"),
    "TIMESTAMP": (93, "2024-02-29 13:14:15.678"),
    "TIMESTAMP_S": (93, "2024-02-29 13:14:15"),
    "TIMESTAMP_MS": (93, "2024-02-29 13:14:15.678"),
    "TIMESTAMP_NS": (93, "2024-02-29 13:14:15.678"),
    "TIMESTAMPTZ": (2014, "2024-02-29 13:14:15.678+00"),
    "UUID": (12, "00112233-4455-6677-8899-aabbccddeeff"),
    "INTERVAL": (12, "3 days"),
}
"""A parameter's JDBC type, and what DuckDB says of the value that the driver bound."""

_STAMP = "2024-02-29 13:14:15"
_HUGE = "12345678901234567890123456789012345678"
_DECIMAL = "1234567890123456789012345678.0123456789"

GETTERS: dict[str, tuple[int, dict[str, Any]]] = {
    "BOOLEAN": (16, {"getObject": True, "getString": "true", "getBoolean": True, "getInt": 1}),
    "TINYINT": (-6, {"getObject": "-7", "getString": "-7", "getByte": "-7", "getInt": -7}),
    "SMALLINT": (5, {"getObject": "-700", "getString": "-700", "getShort": "-700", "getInt": -700}),
    "INTEGER": (4, {"getObject": -70_000, "getString": "-70000", "getInt": -70_000, "getDouble": "-70000.0"}),
    "BIGINT": (-5, {"getObject": -(2**63), "getLong": -(2**63), "getBigDecimal": str(-(2**63))}),
    "UTINYINT": (-6, {"getObject": "100", "getString": "100", "getInt": 100}),
    "USMALLINT": (5, {"getObject": "30000", "getString": "30000", "getInt": 30_000}),
    "UINTEGER": (4, {"getObject": 2 * 10**9, "getString": "2000000000", "getLong": 2 * 10**9}),
    "UBIGINT": (-5, {"getObject": 9 * 10**18, "getString": str(9 * 10**18), "getLong": 9 * 10**18}),
    "HUGEINT": (3, dict.fromkeys(["getObject", "getString", "getBigDecimal"], _HUGE)),
    "FLOAT": (6, {"getObject": "1.5", "getString": "1.5", "getFloat": "1.5", "getDouble": "1.5"}),
    "DOUBLE": (8, {"getObject": "-2.25", "getString": "-2.25", "getDouble": "-2.25"}),
    "DECIMAL(4,1)": (3, {"getObject": "123.4", "getString": "123.4", "getLong": 123}),
    "DECIMAL(18,3)": (3, {"getObject": "-123456789012345.678", "getBigDecimal": "-123456789012345.678"}),
    "DECIMAL(38,10)": (3, dict.fromkeys(["getObject", "getString"], _DECIMAL)),
    "VARCHAR": (12, {"getObject": "héllo 🦆", "getString": "héllo 🦆", "getBytes": "68c3a96c6c6f20f09fa686"}),
    "BLOB": (-3, {"getObject": "00ff", "getBytes": "00ff"}),
    "DATE": (91, {"getObject": "2024-02-29", "getString": "2024-02-29", "getDate": "2024-02-29"}),
    "TIME": (92, dict.fromkeys(["getObject", "getString", "getTime"], "13:14:15.678")),
    "TIMESTAMP_S": (93, dict.fromkeys(["getObject", "getString", "getTimestamp"], f"{_STAMP}.0")),
    "TIMESTAMP_MS": (93, dict.fromkeys(["getObject", "getString", "getTimestamp"], f"{_STAMP}.678")),
    "TIMESTAMP": (93, {"getObject": f"{_STAMP}.678901", "getDate": "2024-02-29", "getTime": "13:14:15"}),
    "TIMESTAMP_NS": (93, dict.fromkeys(["getObject", "getString", "getTimestamp"], f"{_STAMP}.678901234")),
    # The newer driver's getObject does not know it.
    "TIMESTAMPTZ": (2014, dict.fromkeys(["getString", "getTimestamp"], "2024-02-29 11:14:15.678901")),
    "TIMETZ": (12, {"getObject": "13:14:15+02", "getString": "13:14:15+02"}),
    "INTERVAL": (2000, {"getObject": "P14M3D PT4H5M6S", "getString": "P14M3DT4H5M6S"}),
    "UUID": (12, dict.fromkeys(["getObject", "getString"], "00112233-4455-6677-8899-aabbccddeeff")),
    "BIT": (12, {"getObject": "10101", "getString": "10101"}),
    "JSON": (12, {"getObject": '{"a": 1}', "getString": '{"a": 1}'}),
    "ENUM('red', 'green')": (12, {"getObject": "green", "getString": "green"}),
    "INTEGER[]": (2003, {"getObject": [1, None, 3], "getString": "[1,null,3]", "getArray": [1, None, 3]}),
    "INTEGER[2]": (2003, {"getObject": [1, 2], "getString": "[1,2]", "getArray": [1, 2]}),
    "STRUCT(a INTEGER, b VARCHAR)": (2000, {"getObject": {"a": 1, "b": "x"}, "getString": '{"a":1,"b":"x"}'}),
    "MAP(VARCHAR, INTEGER)": (2000, {"getObject": {"k": 1}, "getString": '{"k":1}'}),
    "VARCHAR[][]": (2003, {"getObject": [["a"], []], "getArray": [["a"], []]}),
}  # fmt: skip
"""The JDBC type of a column, and what getters give; unsigned values are those that a driver can carry."""

NULLS = {
    "getBoolean": False,
    "getByte": "0",
    "getShort": "0",
    "getInt": 0,
    "getLong": 0,
    "getFloat": "0.0",
    "getDouble": "0.0",
}
"""What a getter gives for NULL; others give null."""
