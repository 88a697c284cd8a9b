"""The arguments of EXECUTE, put into the text of the prepared statement in the place of its parameters."""

from collections.abc import Iterator, Mapping

from flight_server.engine import quote
from flight_server.engine.markers import replaced
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.tokens import Reader
from flight_server.errors import InvalidArgumentError


def put_in(parsed: ParsedStatement, arguments: str) -> str:
    """Return the text of a statement with arguments (`1, 'x'` or `name := 1`) instead of parameters.

    Raises InvalidArgumentError when they are not those that it takes.
    """
    given = dict(_arguments(arguments))
    wanted = {parameter.name.lower() for parameter in parsed.parameters}
    if given.keys() != wanted:
        raise InvalidArgumentError(
            f"the prepared statement takes the parameters {_listed(wanted)}, given are {_listed(given)}"
        )
    return replaced(parsed.sql.decode(), {name: f"({text}\n)" for name, text in given.items()})


def _arguments(written: str) -> Iterator[tuple[str, str]]:
    """Yield each argument's name, else its number from 1, and its text."""
    reader = Reader(written)
    number, start = 0, 0
    for at in range(len(reader.tokens) + 1):
        is_end = at == len(reader.tokens)
        if not is_end and not (reader.tokens[at].text == "," and reader.tokens[at].depth == 0):
            continue
        part = reader.tokens[start:at]
        if not part:
            if is_end and number == 0:
                return
            raise InvalidArgumentError("an argument of EXECUTE is empty")
        number, start = number + 1, at + 1
        name = str(number)
        if len(part) > 2 and part[1].text == ":=":
            name, part = part[0].value.lower(), part[2:]
        yield name, reader.text(part[0].start, part[-1].end)


def _listed(names: Mapping[str, str] | set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def named(query: str, columns: str | None) -> str:
    """Return a query whose columns have the names that are written in brackets before AS."""
    if columns is None:
        return query
    reader = Reader(columns)
    names = [reader.name()[0]]
    while reader.take(","):
        names.append(reader.name()[0])
    reader.end()
    return f"SELECT * FROM ({query}\n) AS _({', '.join(map(quote.identifier, names))})"  # noqa: S608 - parsed
