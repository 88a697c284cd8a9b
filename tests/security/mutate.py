"""Mutations of hostile statements: by DuckDB's own parse where there is one, else by their words."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import duckdb

Node: TypeAlias = dict[str, Any]

_FUNCTION = "FUNCTION"
_TABLE_TYPES = frozenset(
    {"BASE_TABLE", "TABLE_FUNCTION", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "SHOW_REF", "PIVOT"}
)
_MOST_CHARACTERS = 20_000

_WORDS = re.compile(r"\s+|\w+|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|.", re.DOTALL)

_TABLES = (
    "vault.ledger",
    '"vault"."ledger"',
    "lakehouse.vault.ledger",
    "shared.people",
    "shared.peek",
    '_v."ledger@1"',
    "sys.queries",
    "sys.object_refs",
    "duckdb_tables()",
    "duckdb_columns()",
    "information_schema.columns",
    "pg_catalog.pg_class",
    "read_csv('{file}')",
    "'{file}'",
    '"profile:somebody".docs',
    "vector_search('docs', [0.0, 1.0], profile => 'somebody')",
    "range(3)",
    "(VALUES (1, 'x')) v(id, note)",
)
_VALUES = (
    "'{file}'",
    "'vault.ledger'",
    "NULL",
    "-1",
    "9223372036854775807",
    "'%'",
    "[1, 2]",
    "{'a': 1}",
    "(SELECT max(note) FROM vault.ledger)",
    "(SELECT COLUMNS(*) FROM vault.ledger LIMIT 1)",
    "note",
    "vault.ledger.note",
    "x -> x || getenv('CANARY_VARIABLE')",
)
_WRAPPERS = (
    "SELECT * FROM ({})",
    "WITH c AS ({}) FROM c",
    "WITH c AS MATERIALIZED ({}) SELECT * FROM c, c d",
    "EXPLAIN {}",
    "EXPLAIN ANALYZE {}",
    "DESCRIBE {}",
    "SUMMARIZE {}",
    "PREPARE m AS {}",
    "CREATE TEMP TABLE m AS {}",
    "CREATE OR REPLACE TEMP VIEW m AS {}",
    "CREATE TABLE shared.m AS {}",
    "INSERT INTO shared.people {}",
    "{} UNION ALL BY NAME {}",
    "SELECT ({})",
    "SELECT exists({})",
    "SELECT list(x) FROM ({}) x",
    "FROM shared.people WHERE id IN ({})",
    "SET VARIABLE m = ({})",
    "BEGIN; {}; ROLLBACK",
    "{};",
    "({})",
    "COPY ({}) TO '{{made}}'",
)
_NOISE = (
    " /**/ ",
    " --\n",
    " {# ",
    " #} ",
    ";",
    "'",
    '"',
    "(",
    ")",
    "\u00a0",
    "\u200b",
    "\x00",
    ",",
    ".",
    "$1",
    "?",
)
_NOISE_OF_NAMES = (
    "::",
    "@1",
    " AT (VERSION => 1)",
    " TABLESAMPLE 50%",
    "[1]",
    ".*",
    "(*)",
    " COLLATE NOCASE",
)


class Mutator:
    """Makes statements of statements; the same ones for the same seed."""

    def __init__(self, statements: Sequence[str], seed: int) -> None:
        self._random = random.Random(seed)
        self._connection = duckdb.connect()
        self._statements = list(statements)
        tables = [f"FROM {table}" for table in _TABLES]
        values = [f"SELECT {value}" for value in _VALUES]
        self._trees = [tree for tree in map(self._tree, [*statements, *tables, *values]) if tree is not None]
        self._parts: dict[str, list[Node]] = {}
        for tree in self._trees:
            for node in _nodes(json.loads(tree)):
                self._parts.setdefault(_kind(node), []).append(node)
        self._functions = sorted({node["function_name"] for node in self._parts[_FUNCTION]})

    def close(self) -> None:
        """Let go of the parser."""
        self._connection.close()

    def next(self) -> str:
        """Return another statement."""
        text = self._of_tree() if self._random.random() < 0.7 else self._random.choice(self._statements)
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            text = self._random.choice(_BY_TEXT)(self, text)
        return text[:_MOST_CHARACTERS]

    def _tree(self, text: str) -> str | None:
        """Return DuckDB's own parse of a query, None for other statements."""
        (found,) = self._connection.execute("SELECT json_serialize_sql(?)", [text]).fetchone() or ("{}",)
        return found if not json.loads(found).get("error", True) else None

    def _of_tree(self) -> str:
        """Change parts of a parse, and write down what it then is."""
        tree: Node = json.loads(self._random.choice(self._trees))
        for _ in range(self._random.choice((1, 1, 2, 3))):
            node = self._random.choice([*_nodes(tree)] or [tree])
            if _kind(node) == _FUNCTION and self._random.random() < 0.5:
                node["function_name"] = self._random.choice(self._functions)
                continue
            if _kind(node):
                part = self._random.choice(self._parts[_kind(node)])
                node.clear()
                node.update(json.loads(json.dumps(part)))
        try:
            found = self._connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
        except duckdb.Error:
            return self._random.choice(self._statements)
        return str(found[0]) if found else ""

    def _wrapped(self, text: str) -> str:
        return self._random.choice(_WRAPPERS).replace("{}", text.rstrip("; ")).replace("{{made}}", "{made}")

    def _noisy(self, text: str) -> str:
        words = _WORDS.findall(text)
        words.insert(self._random.randint(0, len(words)), self._random.choice((*_NOISE, *_NOISE_OF_NAMES)))
        return "".join(words)

    def _shuffled(self, text: str) -> str:
        """Drop, double or exchange words."""
        words = _WORDS.findall(text)
        if not words:
            return text
        at, other = (self._random.randrange(len(words)) for _ in range(2))
        words[at], words[other] = self._random.choice(
            ((words[other], words[at]), ("", words[other]), (words[at] * 2, words[other]))
        )
        return "".join(words)

    def _quoted(self, text: str) -> str:
        """Put a word in quotes, or change the case of its letters."""
        words = _WORDS.findall(text)
        plain = [at for at, word in enumerate(words) if word.isidentifier()]
        if plain:
            at = self._random.choice(plain)
            words[at] = self._random.choice(
                (f'"{words[at]}"', words[at].upper(), words[at].swapcase(), f"'{words[at]}'")
            )
        return "".join(words)


_BY_TEXT: Sequence[Callable[[Mutator, str], str]] = (
    Mutator._wrapped,
    Mutator._wrapped,
    Mutator._noisy,
    Mutator._shuffled,
    Mutator._quoted,
)


def _nodes(tree: Any) -> Iterator[Node]:
    """Yield the expressions and the tables of a parse."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    if isinstance(tree, dict) and _kind(tree):
        yield tree
    for each in inner:
        yield from _nodes(each)


def _kind(node: Node) -> str:
    """Return what may take the place of a node: an expression of any other, a table that of a table."""
    if node.get("class") == _FUNCTION:
        return _FUNCTION
    if "class" in node:
        return "expression"
    return "table" if node.get("type") in _TABLE_TYPES else ""
