"""MERGE, which DuckDB's parse of queries does not take: its pieces are read as those of one SELECT.

    WITH … MERGE INTO target USING source ON condition WHEN … AND condition THEN UPDATE SET a = expression …
    SELECT returned columns, (condition), (expression) … FROM target, source

Whatever holds names or expressions is a piece and goes through the gate there; between the pieces stand
nothing but the words of MERGE and names of the target's columns. What is put in the place of names in the
SELECT is taken back from it, piece by piece.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flight_server.engine.tokens import Reader, Token

_ENDS_OF_SOURCE = ("ON", "USING")
_ENDS_OF_EXPRESSION = ("WHEN", "THEN", "RETURNING")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a MERGE with names in it: what it is, and where it stands (bytes of its text)."""

    role: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Merge:
    """A MERGE cut into pieces; `using` is the text of the columns of `USING (…)`, if it joins by these."""

    sql: str
    pieces: tuple[Piece, ...]
    using: str | None
    is_whole: bool
    returns_rows: bool
    mark: str

    def texts(self, role: str) -> list[str]:
        """Return the texts of the pieces of a role."""
        data = self.sql.encode()
        return [data[item.start : item.end].decode() for item in self.pieces if item.role == role]

    @property
    def select(self) -> str:
        """The SELECT that holds all pieces; what it begins the target with is at `target_start`."""
        head, _, tail = self._halves()
        return head + tail

    @property
    def target_start(self) -> int:
        """Where the target begins in the SELECT, in bytes."""
        return self._halves()[1]

    def _halves(self) -> tuple[str, int, str]:
        def marked(number: int) -> str:
            piece = self.pieces[number]
            return f"{self.mark}{self.sql.encode()[piece.start : piece.end].decode()}\n{self.mark}"

        order = {role: [n for n, item in enumerate(self.pieces) if item.role == role] for role in _ROLES}
        columns = [marked(n) for n in order["returned"]]
        columns += [f"({marked(n)})" for role in ("condition", "expression") for n in order[role]]
        head = "".join(f"{marked(n)} " for n in order["with"])
        head += f"SELECT {', '.join(columns) or '1'} FROM "  # noqa: S608 - it is parsed, and never run
        target, source = (marked(order[role][0]) for role in ("target", "source"))
        return head, len((head + self.mark).encode()), f"{target}, {source}"

    def written(self, select: str) -> str:
        """Return the MERGE with the pieces as they are in a SELECT that was made from `select`."""
        found = select.split(self.mark)[1::2]
        order = [number for role in _ROLES for number, item in enumerate(self.pieces) if item.role == role]
        texts = dict(zip(order, found, strict=True))
        data, at, out = self.sql.encode(), 0, []
        for number, piece in sorted(enumerate(self.pieces), key=lambda pair: pair[1].start):
            out += [data[at : piece.start].decode(), texts[number]]
            at = piece.end
        return "".join([*out, data[at:].decode()])


_ROLES = ("with", "returned", "condition", "expression", "target", "source")
"""The order in which the pieces stand in the SELECT."""


def is_merge(reader: Reader) -> bool:
    """Tell whether a statement is a MERGE, perhaps behind a WITH."""
    words = (token.word for token in reader.tokens if token.depth == 0)
    return next((word for word in words if word in _HEADS), "") == "MERGE"


_HEADS = frozenset({"SELECT", "FROM", "VALUES", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MERGE"})


def read_merge(sql: str) -> Merge:
    """Cut a MERGE into pieces. Raises InvalidArgumentError."""
    reader = Reader(sql)
    found = _Reading(reader)
    found.head()
    while reader.word == "WHEN":
        found.clause()
    found.returning()
    reader.end()
    mark = next(text for number in range(len(sql)) if (text := f"/*~{number}*/") not in sql)
    pieces = tuple(found.pieces)
    has_rows = any(item.role == "returned" for item in pieces)
    text = reader.text(0, reader.tokens[-1].end)
    return Merge(text, pieces, found.using, found.is_whole, has_rows, mark)


class _Reading:
    """Reads a MERGE from its first token to its last."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.pieces: list[Piece] = []
        self.using: str | None = None
        self.is_whole = False

    def head(self) -> None:
        reader = self._reader
        if reader.word == "WITH":
            self._piece("with", ("MERGE",))
        if not reader.take("MERGE", "INTO"):
            raise reader.unexpected("MERGE INTO")
        self._piece("target", ("USING",))
        reader.take("USING")
        self._piece("source", _ENDS_OF_SOURCE)
        if reader.take("USING"):
            self.using = reader.brackets()
        else:
            self._take("ON")
            self._piece("condition", _ENDS_OF_EXPRESSION)

    def clause(self) -> None:
        """Read a WHEN clause."""
        reader = self._reader
        reader.take("WHEN")
        reader.take("NOT")
        self._take("MATCHED")
        if reader.take("BY"):
            self.is_whole |= reader.take_any("SOURCE", "TARGET") == "SOURCE"
        if reader.take("AND"):
            self._piece("condition", _ENDS_OF_EXPRESSION)
        self._take("THEN")
        action = reader.take_any(*_ACTIONS)
        if not action:
            raise reader.unexpected(" or ".join(_ACTIONS))
        _ACTIONS[action](self)

    def returning(self) -> None:
        """Read a RETURNING, if there is one."""
        if self._reader.take("RETURNING"):
            self._piece("returned", ())

    def _take(self, word: str) -> None:
        if not self._reader.take(word):
            raise self._reader.unexpected(word)

    def _nothing(self) -> None:
        self._take("NOTHING")

    def _delete(self) -> None:
        """DELETE has nothing more."""

    def _error(self) -> None:
        if self._reader.token and self._reader.word not in _ENDS_OF_EXPRESSION:
            self._piece("expression", _ENDS_OF_EXPRESSION)

    def _by(self) -> None:
        if self._reader.take("BY") and not self._reader.take_any("NAME", "POSITION"):
            raise self._reader.unexpected("NAME or POSITION")

    def _insert(self) -> None:
        reader = self._reader
        self._by()
        if reader.take("*") or reader.take("DEFAULT", "VALUES"):
            return
        if reader.word == "(":
            self._names()
        if reader.take("VALUES"):
            self._values()

    def _values(self) -> None:
        """Read the values of an INSERT; the brackets are no part of them."""
        reader = self._reader
        self._take("(")
        depth = reader.tokens[reader.at].depth if reader.token else 0
        while reader.token and not (reader.token.depth < depth and reader.word == ")"):
            self._value(depth)
            reader.take(",")
        self._take(")")

    def _value(self, depth: int) -> None:
        if not self._reader.take("DEFAULT"):
            self._piece("expression", (",",), depth)

    def _names(self) -> None:
        """Step over names of columns in brackets."""
        self._take("(")
        self._reader.name()
        while self._reader.take(","):
            self._reader.name()
        self._take(")")

    def _update(self) -> None:
        reader = self._reader
        self._by()
        if not reader.take("SET") or reader.take("*"):
            return
        self._assignment()
        while reader.take(","):
            self._assignment()

    def _assignment(self) -> None:
        if self._reader.word == "(":
            self._names()
        else:
            self._reader.name()
        self._take("=")
        if not self._reader.take("DEFAULT"):
            self._piece("expression", (",", *_ENDS_OF_EXPRESSION))

    def _piece(self, role: str, ends: Sequence[str], depth: int = 0) -> None:
        """Take all tokens up to one of these words outside of brackets and of CASE."""
        reader = self._reader
        taken = list(_until(reader.tokens[reader.at :], ends, depth))
        if not taken:
            raise reader.unexpected("a table" if role in ("target", "source") else "an expression")
        reader.at += len(taken)
        self.pieces.append(Piece(role, taken[0].start, taken[-1].end))


_ACTIONS = {
    "DO": _Reading._nothing,
    "DELETE": _Reading._delete,
    "ERROR": _Reading._error,
    "INSERT": _Reading._insert,
    "UPDATE": _Reading._update,
}


def _until(tokens: Sequence[Token], ends: Sequence[str], depth: int) -> Iterator[Token]:
    cases = 0
    for token in tokens:
        if token.depth < depth or (token.depth == depth and not cases and token.word in ends):
            return
        if token.depth == depth:
            cases += (token.word == "CASE") - (token.word == "END")
        yield token
