"""The datasets of one commit while it is made: what is stored of each, and what a change may ask of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from sqlalchemy import Connection, bindparam, insert, select

from flight_server.catalog.tables import IS_LIVE, dataset_versions, datasets, schemas
from flight_server.domain import declarations
from flight_server.domain.dataset import ChangeMode, DatasetChange, Kind, display_name, fold_name
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError

# Made once: building a statement costs as much as running it.
_CURRENT = (
    select(
        *datasets.c["id", "name", "kind", "since"], *dataset_versions.c["version", "schema_id", "definition"]
    )
    .join(dataset_versions, dataset_versions.c.dataset == datasets.c.id)
    .where(
        datasets.c.namespace == bindparam("namespace"),
        datasets.c.lower_name == bindparam("lower_name"),
        IS_LIVE,
    )
    .order_by(dataset_versions.c.version.desc())
    .limit(1)
)
_SCHEMA_OF_VERSION = select(dataset_versions.c.schema_id).where(
    dataset_versions.c.dataset == bindparam("dataset"), dataset_versions.c.version == bindparam("version")
)
_SCHEMA = select(schemas.c.arrow_schema).where(schemas.c.id == bindparam("id"))
_SCHEMA_ID = select(schemas.c.id).where(schemas.c.digest == bindparam("digest"))


@dataclass(slots=True, eq=False)
class Draft:
    """The next version of one dataset while its commit is being made; `base` is the stored version.

    `since` is the commit that gave it its name. `stored_schema_id` is that of the stored version;
    `is_current` says that the schema a change started from was found to be it.
    """

    id: str
    namespace: str
    name: str
    kind: str
    base: int | None = None
    schema_id: int | None = None
    definition: str | None = None
    since: int = 0
    exists: bool = False
    stored_schema_id: int | None = None
    is_current: bool = False

    @property
    def version(self) -> int:
        """The version that the commit makes."""
        return (self.base or 0) + 1

    def __str__(self) -> str:
        """Return the dataset as messages name it."""
        kind = "view" if self.kind == Kind.VIEW else "dataset"
        return f"{kind} {display_name(self.namespace, self.name)}"


class Drafts:
    """The drafts of one commit by the names that they have while it is made."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_name: dict[tuple[str, str], Draft] = {}
        self._touched: dict[str, Draft] = {}
        self._schema_ids: dict[bytes, int] = {}

    def of(self, change: DatasetChange) -> Draft:
        """Return the draft that has the name of a change: a new one where nothing has it."""
        return self.named(change.namespace, change.name) or Draft(
            change.dataset_id, fold_name(change.namespace), change.name, change.kind
        )

    def named(self, namespace: str, name: str) -> Draft | None:
        """Return the draft of a name, None where nothing has the name now."""
        key = (fold_name(namespace), fold_name(name))
        draft = self._by_name.get(key)
        if draft is None or not draft.exists:
            draft = None if key in self._by_name else self._stored(*key)
        return draft

    def _stored(self, namespace: str, lower_name: str) -> Draft | None:
        row = self._connection.execute(_CURRENT, {"namespace": namespace, "lower_name": lower_name}).first()
        if row is None:
            return None
        return Draft(
            row.id, namespace, row.name, row.kind, row.version, row.schema_id, row.definition, row.since,
            exists=True, stored_schema_id=row.schema_id,
        )  # fmt: skip

    def keep(self, draft: Draft) -> None:
        """Note that a draft has its name, or had it and is no more, and that it gets a version."""
        self._by_name[draft.namespace, fold_name(draft.name)] = draft
        self._touched[draft.id] = draft

    def free(self, draft: Draft) -> None:
        """Note that a draft is about to lose its name."""
        gone = Draft(draft.id, draft.namespace, draft.name, draft.kind)
        self._by_name[draft.namespace, fold_name(draft.name)] = gone

    def touched(self) -> Iterable[Draft]:
        """Return all that the commit makes a version of."""
        return self._touched.values()

    def schema_number(self, schema: bytes) -> int:
        """Return the id under which a schema is stored, storing it when it is new."""
        if schema not in self._schema_ids:
            self._schema_ids[schema] = schema_number(self._connection, schema)
        return self._schema_ids[schema]

    def schema(self, schema_id: int | None) -> bytes:
        """Return a stored schema."""
        found: bytes = self._connection.execute(_SCHEMA, {"id": schema_id}).scalar_one()
        return found

    def check(self, draft: Draft, change: DatasetChange) -> None:
        """Refuse a change that what is stored does not allow.

        Raises AlreadyExistsError, NotFoundError or ConflictError.
        """
        for rule in _RULES[change.mode]:
            rule(self, draft, change)

    def base_schema_id(self, change: DatasetChange) -> int | None:
        """Return the schema of the version that a change started from, None when that is forgotten."""
        values = {"dataset": change.dataset_id, "version": change.base_version}
        return self._connection.execute(_SCHEMA_OF_VERSION, values).scalar()


def schema_number(connection: Connection, schema: bytes) -> int:
    """Return the id under which a schema is stored, storing it when it is new."""
    digest = sha256(schema).hexdigest()
    known: int | None = connection.execute(_SCHEMA_ID, {"digest": digest}).scalar()
    if known is not None:
        return known
    row = {"digest": digest, "arrow_schema": schema}
    made: int = connection.execute(insert(schemas).returning(schemas.c.id), row).scalar_one()
    return made


def _must_be_new(_: Drafts, draft: Draft, _change: DatasetChange) -> None:
    if draft.exists:
        raise AlreadyExistsError(f"{draft} already exists; append to it, replace it, or choose another name")


def _must_exist(_: Drafts, draft: Draft, change: DatasetChange) -> None:
    if not draft.exists:
        raise NotFoundError(f"{draft} does not exist; create it first, or use the mode create_append")
    _must_be_of_kind(_, draft, change)


def _must_be_of_kind(_: Drafts, draft: Draft, change: DatasetChange) -> None:
    if draft.exists and draft.kind != change.kind:
        raise AlreadyExistsError(f"{draft} is no {change.kind}: choose another name, or drop it first")


def _must_not_be_gone(_: Drafts, draft: Draft, change: DatasetChange) -> None:
    if not draft.exists and change.base_version:
        raise ConflictError(f"{draft} was dropped or renamed meanwhile; look at it again and repeat")


def _must_be_the_same(_: Drafts, draft: Draft, change: DatasetChange) -> None:
    if not draft.exists or draft.id != change.dataset_id:
        raise ConflictError(f"{draft} was dropped or renamed meanwhile; look at it again and repeat")


def _must_not_have_moved(_: Drafts, draft: Draft, change: DatasetChange) -> None:
    if draft.base is None or change.kind is Kind.VIEW:
        return
    if draft.base != change.base_version or draft.id != change.dataset_id:
        started = "no dataset" if change.base_version is None else f"version {change.base_version}"
        raise ConflictError(
            f"{draft} moved: it is at version {draft.base}, and the {_NOUNS[change.mode]} started from "
            f"{started}; look at it again and repeat"
        )


def _keys_must_hold(drafts: Drafts, draft: Draft, change: DatasetChange) -> None:
    """Rows were compared with those of a version: of another one nobody knows."""
    may_have_keys = change.objects and declarations.CONSTRAINTS in change.schema
    if may_have_keys and declarations.keys(declarations.read(change.schema)):
        _must_not_have_moved(drafts, draft, change)


def _schema_must_not_have_moved(drafts: Drafts, draft: Draft, change: DatasetChange) -> None:
    # Later changes of one commit start from what the earlier ones made.
    if draft.base is None or draft.is_current:
        return
    if drafts.base_schema_id(change) != draft.stored_schema_id:
        raise ConflictError(
            f"the columns of {draft} have changed meanwhile (it is at version {draft.base}); "
            "look at it again and repeat"
        )
    draft.is_current = True


def _may_not_tighten(drafts: Drafts, draft: Draft, change: DatasetChange) -> None:
    """A promise of all rows was checked for those of a version."""
    if _promises_more(drafts.schema(draft.schema_id), change.schema):
        _must_not_have_moved(drafts, draft, change)


def check_promises(drafts: Drafts, draft: Draft, change: DatasetChange) -> None:
    """Refuse to append rows that were looked at before the dataset promised what it does now.

    Raises ConflictError.
    """
    if change.base_version == draft.base:
        return
    base = drafts.base_schema_id(change)
    before = change.schema if base is None else drafts.schema(base)
    if _promises_more(before, drafts.schema(draft.schema_id)):
        raise ConflictError(
            f"{draft} promises more than when the rows were written for it (it is at version {draft.base}): "
            "NOT NULL or a constraint with which they were not compared; repeat the append"
        )


def _promises_more(before: bytes, after: bytes) -> bool:
    """Tell whether a schema promises of all rows what another one does not."""
    earlier, later = declarations.read(before), declarations.read(after)
    may_be_null = {declarations.column_id(field) for field in earlier if field.nullable}
    promised = {declarations.column_id(field) for field in later if not field.nullable}
    new = set(declarations.constraints(later)) - set(declarations.constraints(earlier))
    return bool(may_be_null & promised or new)


_NOUNS: Mapping[ChangeMode, str] = {
    ChangeMode.REPLACE: "replacement",
    ChangeMode.APPEND: "append",
    ChangeMode.CREATE_APPEND: "append",
    ChangeMode.REWRITE: "rewrite",
    ChangeMode.ALTER: "alteration",
}

_Rule: TypeAlias = Callable[[Drafts, Draft, DatasetChange], None]

_RULES: Mapping[ChangeMode, tuple[_Rule, ...]] = {
    ChangeMode.CREATE: (_must_be_new,),
    ChangeMode.APPEND: (_must_not_be_gone, _must_exist, _keys_must_hold),
    ChangeMode.CREATE_APPEND: (_must_not_be_gone, _must_be_of_kind, _keys_must_hold),
    ChangeMode.REPLACE: (_must_not_be_gone, _must_be_of_kind, _must_not_have_moved),
    ChangeMode.REWRITE: (_must_be_the_same, _schema_must_not_have_moved, _keys_must_hold),
    ChangeMode.ALTER: (_must_be_the_same, _schema_must_not_have_moved, _may_not_tighten),
    ChangeMode.RENAME: (_must_be_the_same,),
    ChangeMode.DROP: (_must_be_the_same,),
}
"""What each mode asks of the dataset before it is changed."""
