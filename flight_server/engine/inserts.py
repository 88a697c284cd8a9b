"""The parts of an INSERT with a conflict clause: what it inserts, that clause, its RETURNING."""

from flight_server.engine.tokens import Reader, Token


class Insertion:
    """An INSERT with a conflict clause, over hidden relations, by its tokens outside of brackets."""

    def __init__(self, sql: str) -> None:
        self._sql = sql.encode()
        outer = [token for token in Reader(sql).tokens if token.depth == 0]
        head = next(at for at, token in enumerate(outer) if token.word == "INSERT")
        self._or = outer[head + 1 : head + 3] if outer[head + 1].word == "OR" else []
        self._end = self._sources_end(outer[head:])

    def _sources_end(self, outer: list[Token]) -> int:
        words = [token.word for token in outer]
        # The last one: a table of the source may be called conflict.
        starts = [at for at in range(len(words) - 1) if words[at : at + 2] == ["ON", "CONFLICT"]]
        conflict = outer[starts[-1]] if starts and not self._or else None
        returning = next((token for token in outer if token.word == "RETURNING"), None)
        ends = [token.start for token in (conflict, returning) if token is not None]
        return min(ends, default=outer[-1].end)

    def plain(self, target: str, other: str) -> str:
        """Return the text that inserts the same rows into another table, whatever is there."""
        text = self._sql[: self._end]
        if self._or:
            start, end = self._or[0].start, self._or[-1].end
            text = text[:start] + text[end:]
        return text.decode().replace(target, other, 1)
