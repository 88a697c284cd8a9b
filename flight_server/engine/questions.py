"""Asks the gateway what a statement needs to know, in frames."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from flight_server.domain.vector import IndexRecord
from flight_server.engine.statement import Questions
from flight_server.frames.changes import Namespace, Target, Use, decode_namespace, decode_target
from flight_server.frames.frame import Frame
from flight_server.frames.requests import Relation, TableName, decode_relations, encode_names, relations_ahead
from flight_server.frames.vectors import decode_indexes


class Asker:
    """Asks about one statement; names that its request brings resolved are not asked for."""

    def __init__(self, ask: Callable[[Frame], Frame], request: Frame) -> None:
        self._ask = ask
        self._ahead = relations_ahead(request)

    @property
    def questions(self) -> Questions:
        """What a statement may ask."""
        return Questions(
            self._resolve,
            self._qualify,
            self._describe,
            self._rows,
            self._target,
            self._namespace,
            self._indexes,
        )

    def _resolve(self, names: Sequence[TableName]) -> Sequence[str]:
        unknown = [name for name in names if name not in self._ahead]
        if unknown:
            answer = self._ask(Frame("resolve", {"names": encode_names(unknown)}))
            self._ahead.update(zip(unknown, answer.fields["relations"], strict=True))
        return [self._ahead[name] for name in names]

    def _qualify(self, names: Sequence[TableName]) -> Sequence[Sequence[str]]:
        answer = self._ask(Frame("qualify", {"names": encode_names(names)}))
        paths: list[list[str]] = answer.fields["paths"]
        return paths

    def _describe(self, relations: Sequence[str]) -> dict[str, Relation]:
        return decode_relations(self._ask(Frame("describe", {"relations": list(relations)})))

    def _rows(self, relation: str) -> pa.Table:
        pages: list[pa.Table] = []
        after: int | None = None
        while not pages or after is not None:
            answer = self._ask(Frame("rows", {"relation": relation, "after": after}))
            pages.append(pa.ipc.open_stream(answer.payload).read_all())
            after = answer.fields["next"]
        return pa.concat_tables(pages)

    def _target(self, path: Sequence[str], use: Use) -> Target:
        return decode_target(self._ask(Frame("target", {"path": list(path), "use": use})))

    def _indexes(self, relation: str) -> Sequence[IndexRecord]:
        return decode_indexes(self._ask(Frame("indexes", {"relation": relation})).fields["records"])

    def _namespace(self, name: str) -> Namespace:
        return decode_namespace(self._ask(Frame("namespace", {"name": name})))
