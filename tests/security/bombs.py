"""Statements that would take all the time or memory there is."""

from collections.abc import Mapping

_DEEP = 20_000
_WIDE = 60_000
_LONG = 4_000_000
_NEAR = "[0.5, 0.5, 0.5, 0.5]"

BOMBS: Mapping[str, tuple[str, ...]] = {
    "functions": (
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT length(repeat('x', 4000000000))",
        "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
        "SELECT length(format('{:2000000000d}', 1))",
        "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
        "SELECT count(*) FROM range(200000) t(i) WHERE md5(repeat(i::VARCHAR, 100000)) LIKE 'a%'",
        "SELECT bit_count(bitstring('1', 2000000000))",
        "SELECT printf('%1000000000d', 1) FROM range(1000)",
        "SELECT max(factorial((i % 33)::INTEGER)) FROM range(100000000000) t(i)",
    ),
    "lists": (
        "SELECT len(range(10000000000))",
        "SELECT list_transform(range(300000000), lambda x: x::VARCHAR)",
        "SELECT list_distinct(range(300000000))",
        "SELECT list_reduce(range(100000000), lambda a, b: (a + b) % 7)",
        "SELECT list(i) FROM range(10000000000) t(i)",
        "SELECT array_agg(repeat('x', 1000)) FROM range(100000000)",
        "SELECT map_from_entries(list_transform(range(100000000), lambda x: {'k': x, 'v': x}))",
        "SELECT count(*) FROM (SELECT unnest(range(i)) FROM range(1000000) t(i))",
        "SELECT flatten(list_transform(range(100000), lambda x: range(100000)))",
    ),
    "json": (
        "SELECT to_json(range(300000000))",
        "SELECT json_group_array(repeat('x', 1000)) FROM range(100000000)",
        f"SELECT json_extract(repeat('[', {_LONG}) || repeat(']', {_LONG}), '$[0]')",
        "SELECT json_structure(to_json(list_transform(range(10000000), lambda x: {'a': x})))",
        "SELECT count(*) FROM range(1000000), json_each(to_json(range(100000)))",
    ),
    "text": (
        "SELECT repeat('a', 10000000) LIKE repeat('%a', 5000) || 'b'",
        "SELECT regexp_matches(repeat('a', 50000000), '(a?){50}(a*)*b$')",
        "SELECT regexp_replace(repeat('a', 30000000), '(a|aa)+$', repeat('x', 100), 'g')",
        "SELECT regexp_extract_all(repeat('ab', 50000000), '(a)(b)')",
        "SELECT string_split(repeat('a,', 200000000), ',')",
        "SELECT jaro_winkler_similarity(repeat('ab', 500000), repeat('ba', 500000))",
        "SELECT count(*) FROM range(100000000) t(i) WHERE i::VARCHAR SIMILAR TO '(1|2|3)*4(5|6)*'",
    ),
    "joins": (
        "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c",
        "SELECT max(a.range * b.range) FROM range(10000000) a, range(10000000) b",
        "SELECT count(*) FROM range(1000000) a(i) JOIN range(1000000) b(j) ON i % 7 < j % 5",
        "SELECT count(*) FROM range(3000000) a(i) ASOF JOIN range(3000000) b(j) ON i >= j, range(1000)",
    ),
    "recursion": (
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r",
        "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT count(*) FROM r",
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + n FROM r, range(9) t(n)) SELECT sum(i) FROM r",
    ),
    "nesting": (
        "SELECT " + "(" * _DEEP + "1" + ")" * _DEEP,
        "SELECT " + "-" * 1 + " -".join(["1"] * _DEEP),
        "SELECT " + "abs(" * 5_000 + "1" + ")" * 5_000,
        "SELECT * FROM (" * 2_000 + "SELECT 1" + ")" * 2_000,
        "SELECT " + "[" * 5_000 + "]" * 5_000,
        "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
        " UNION ALL ".join(["SELECT 1"] * 10_000),
        "WITH "
        + ", ".join(f"c{i} AS (FROM c{i - 1}, c{i - 1} d)" for i in range(1, 60)).replace("c0", "range(2)")
        + " SELECT count(*) FROM c59",
    ),
    "size": (
        f"SELECT length('{'x' * 12_000_000}')",
        f"SELECT {'1' * 1_000_000}",
        "SELECT " + ", ".join(f"{i} AS c{i}" for i in range(_WIDE)),
        "VALUES " + ", ".join(f"({i}, 'x')" for i in range(200_000)),
        "SELECT 1 WHERE 1 IN (" + ", ".join(map(str, range(500_000))) + ")",
        "SELECT " + " OR ".join(f"x = {i}" for i in range(_DEEP)) + " FROM range(10000000) t(x)",
        "FROM range(2) " + " ".join(f"JOIN range(2) t{i} ON true" for i in range(300)),
        "PIVOT (FROM range(100000) t(i)) ON i USING count(*)",
        "SELECT "
        + ", ".join(f"sum(i) OVER (ORDER BY i % {n})" for n in range(1, 400))
        + " FROM range(100000) t(i)",
    ),
    "spilling": (
        "SELECT count(*) FROM (SELECT * FROM range(2000000000) t(i) ORDER BY hash(i))",
        "SELECT count(DISTINCT md5(i::VARCHAR)) FROM range(2000000000) t(i)",
        "SELECT i % 100000000, list(i) FROM range(2000000000) t(i) GROUP BY 1",
        "SELECT count(*) FROM range(300000000) a(i) JOIN range(300000000) b(j) ON hash(i) = hash(j)",
        "SELECT max(x) FROM (SELECT sum(i) OVER (ORDER BY hash(i)) AS x FROM range(500000000) t(i))",
        "SELECT quantile_cont(hash(i), 0.5) FROM range(2000000000) t(i)",
    ),
    "state": (
        "CREATE OR REPLACE TEMP TABLE big AS SELECT i, md5(i::VARCHAR) AS m FROM range(2000000000) t(i)",
        "SET VARIABLE big = (SELECT list(i) FROM range(2000000000) t(i))",
        "CREATE TABLE shared.big AS SELECT i, md5(i::VARCHAR) AS m FROM range(20000000000) t(i)",
        "INSERT INTO shared.people SELECT i, repeat('x', 1000) FROM range(10000000000) t(i)",
        "UPDATE shared.people SET name = repeat('x', 2000000000)",
        "CREATE OR REPLACE TEMP TABLE slow (i INTEGER CHECK (len(range(i * 1000000)) > 0))",
        "INSERT INTO slow SELECT i FROM range(1, 4000) t(i)",
    ),
    "searches": (
        *(
            f"FROM vector_search('many', {_NEAR}, profile => 'selfer', k => 10000, filter => '{filtered}')"
            for filtered in (
                " OR ".join(f"id = {i}" for i in range(300)),
                "(" * 1_500 + "id = 1" + ")" * 1_500,
                "NOT " * 1_000 + "id = 1",
                "text LIKE ''" + "%a" * 1_900 + "b''",
                "regexp_matches(text, ''(a*)*(a|aa)*b$'')",
                "id IN (" + ", ".join(map(str, range(800))) + ")",
                "repeat(text, 1000000000) LIKE ''%b''",
                "len(range(id * 1000000000)) > 0",
            )
        ),
        f"FROM vector_search('many', {_NEAR}, profile => 'selfer', k => 1000000000)",
        f"FROM vector_search('many', {_NEAR}, profile => 'selfer', exact => true, ef => 1000000000)",
        "FROM vector_search('many', " + str([0.5] * 100_000) + ", profile => 'selfer')",
        "FROM text_search('many', '" + "one two " * 100_000 + "', profile => 'selfer')",
        "FROM text_search('many', '" + "(" * 5_000 + "one" + ")" * 5_000 + "', profile => 'selfer')",
        f"SELECT count(*) FROM range(100000000), vector_search('many', {_NEAR}, profile => 'selfer')",
        "FROM " + ", ".join(f"vector_search('many', {_NEAR}, profile => 'selfer') v{i}" for i in range(60)),
    ),
}
"""What they fill up, or where they are → statements."""
