"""Settings: one frozen tree, read once and checked as a whole before anything starts.

Sources, weakest first: defaults, the TOML file that the caller names, the environment
(`FLIGHT_SERVER__SECTION__KEY`), the command line. No other file is read.
"""

import ipaddress
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flight_server.domain.bucket import (
    PRIMARY,
    PROFILE_PATTERN,
    RESERVED_NAMES,
    Bucket,
    BucketPattern,
    BucketRegistry,
    is_valid_name,
)
from flight_server.domain.location import local_root, pattern
from flight_server.embedder_settings import EmbedderName, EmbedderSettings
from flight_server.errors import InvalidArgumentError

ENVIRONMENT_PREFIX = "FLIGHT_SERVER__"

PRIMARY_ALIASES = ("", "data", "local")
"""Names that catalogs written before buckets existed use for `primary`."""

_MIB = 1024 * 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_JSON_STARTS = ("{", "[")

Tree = dict[str, Any]


class ConfigError(InvalidArgumentError):
    """The configuration is wrong; `problems` says everything that is, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        super().__init__("\n  - ".join((f"the configuration has {count}:", *problems)))


def _default_memory() -> ByteSize:
    """Return half of the memory that this machine or container has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return ByteSize(min(physical, int(limit) if limit.isdecimal() else physical) // 2)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BucketSettings(_Section):
    """One bucket: `uri` is a local folder or a `file://` URI.

    `aliases` left out means none, except for `primary`, which then has those of `PRIMARY_ALIASES`
    that no other bucket uses.
    """

    uri: str
    aliases: tuple[str, ...] | None = None
    read_only: bool = False

    @property
    def root(self) -> Path:
        """The folder that `uri` names, absolute and without symbolic links.

        Raises ValueError when this version cannot serve the URI.
        """
        return local_root(self.uri)

    @property
    def pattern(self) -> BucketPattern:
        """What makes buckets of a `uri` in which `{name}` is a folder. Raises ValueError for others."""
        return pattern(self.uri, read_only=self.read_only)


class CatalogSettings(_Section):
    """Where the catalog is kept; without a `url` in `catalog.db` of the data directory.

    `retention` is how many seconds a version stays readable after the next one; tickets, which may
    name it, expire after a day. Small objects of one dataset are merged in the background when they are
    more than `compact_beyond`, 0 means never.
    """

    url: str | None = None
    retention: float = Field(default=7 * 24 * 3600, ge=24 * 3600, allow_inf_nan=False)
    compact_beyond: int = Field(default=200, ge=0)

    @field_validator("url")
    @classmethod
    def _is_sqlite(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("sqlite:///"):
            raise ValueError("must begin with 'sqlite:///', followed by the file's path")
        return url


class LimitSettings(_Section):
    """What one client or one statement may use; times are in seconds, 0 means no limit."""

    message_bytes: ByteSize = Field(default=ByteSize(64 * _MIB), ge=_MIB, le=1024 * _MIB)
    statement_bytes: ByteSize = Field(default=ByteSize(16 * _MIB), ge=1024)
    statement_timeout: float = Field(default=0, ge=0, allow_inf_nan=False)
    sessions: int = Field(default=10_000, ge=1)
    session_idle: float = Field(default=1800, gt=0, allow_inf_nan=False)
    transaction_idle: float = Field(default=1800, gt=0, allow_inf_nan=False)
    held_results_bytes: ByteSize = Field(default=ByteSize(256 * _MIB), ge=_MIB)
    drain: float = Field(default=30, ge=0, allow_inf_nan=False)


class EngineSettings(_Section):
    """What the engine processes together may use."""

    memory: ByteSize = Field(default_factory=_default_memory, ge=64 * _MIB)
    temp_bytes: ByteSize = Field(default=ByteSize(20 * 1024 * _MIB), ge=0)
    spares: int = Field(default=1, ge=0, le=8)


class VectorSettings(_Section):
    """What searches of vectors may keep in memory, in bytes; the profile used least recently goes first.

    Indexes are brought up to date when nobody has committed for `catch_up_after` seconds, 0 means never.
    """

    memory: ByteSize = Field(default_factory=lambda: ByteSize(_default_memory() // 4), ge=_MIB)
    catch_up_after: float = Field(default=2, ge=0, le=3600, allow_inf_nan=False)


class TelemetrySettings(_Section):
    """What the server says about itself."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """Everything that can be configured; made by `load`.

    No `buckets` means those of `default_buckets`. `data_dir` is absolute.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    allow_insecure: bool = False
    port: int = Field(default=31337, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    data_dir: Annotated[Path, AfterValidator(_absolute)] = Path("data")
    buckets: dict[str, BucketSettings] = {}
    catalog: CatalogSettings = CatalogSettings()
    limits: LimitSettings = LimitSettings()
    engine: EngineSettings = Field(default_factory=EngineSettings)
    vectors: VectorSettings = Field(default_factory=VectorSettings)
    embedders: dict[EmbedderName, EmbedderSettings] = {}
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from `load` alone: the library's environment source skips unknown names."""
        return (init_settings,)

    @property
    def catalog_url(self) -> str:
        """SQLAlchemy URL of the catalog."""
        return self.catalog.url or f"sqlite:///{self.data_dir / 'catalog.db'}"

    def registry(self) -> BucketRegistry:
        """Return the configured buckets, or the default ones, with roots as `file://` URIs."""
        buckets = self.buckets or default_buckets(self.data_dir)
        made = buckets.get(PROFILE_PATTERN)
        return BucketRegistry(
            (
                Bucket(name, bucket.root.as_uri(), _aliases(name, buckets), bucket.read_only)
                for name, bucket in buckets.items()
                if name != PROFILE_PATTERN
            ),
            made.pattern if made is not None else None,
        )


def default_buckets(data_dir: Path) -> dict[str, BucketSettings]:
    """Return the buckets of a server whose configuration names none."""
    folders = {
        PRIMARY: "primary",
        "testing": "_testing",
        "profile:user": "_profile_user",
        PROFILE_PATTERN: "_profiles/{name}",
    }
    return {name: BucketSettings(uri=str(data_dir / folder)) for name, folder in folders.items()}


def load(config_file: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Read and check the settings; `overrides` are those of the command line.

    Raises ConfigError with all problems of all sources.
    """
    problems: list[str] = []
    sources = {
        "command line": dict(overrides),
        "environment": _read_environment(os.environ, problems),
        str(config_file): _read_toml(config_file, problems),
    }
    tree: Tree = {}
    for source in reversed(sources.values()):
        tree = _merge(tree, source)
    problems += _bucket_problems(tree.get("buckets"))
    problems += _host_problems(tree)
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        problems += [_describe(details, sources) for details in error.errors()]
    if problems:
        raise ConfigError(problems)
    return settings


def _read_toml(path: Path | None, problems: list[str]) -> Tree:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
    except ValueError as error:
        problems.append(f"{path} is not TOML: {error}")
    return {}


def _read_environment(environment: Mapping[str, str], problems: list[str]) -> Tree:
    """Collect our variables as a tree; a value that begins with `{` or `[` is JSON."""
    tree: Tree = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        value: Any = text
        if text.lstrip().startswith(_JSON_STARTS):
            try:
                value = json.loads(text)
            except ValueError as error:
                problems.append(f"{variable} is not JSON: {error}")
                continue
        for name in reversed(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")):
            value = {name: value}
        tree = _merge(tree, value)
    return tree


def _merge(under: Tree, over: Tree) -> Tree:
    merged = under | over
    for name in under.keys() & over.keys():
        if isinstance(under[name], dict) and isinstance(over[name], dict):
            merged[name] = _merge(under[name], over[name])
    return merged


def _describe(details: ErrorDetails, sources: Mapping[str, Tree]) -> str:
    path = [str(part) for part in details["loc"]]
    origin = next((name for name, tree in sources.items() if _holds(tree, path)), None)
    where = ".".join(path) + (f" ({origin})" if origin else "")
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown setting; known here: {', '.join(_known_names(path[:-1]))}"
    message = details["msg"].removeprefix("Value error, ")
    is_shown = details["type"] != "missing" and path[0] != "embedders"  # there may be a key in it
    shown = f", not {str(details['input'])[:80]!r}" if is_shown else ""
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"


def _holds(tree: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _known_names(section: list[str]) -> Iterator[str]:
    named: dict[str, type[BaseModel]] = {"buckets": BucketSettings, "embedders": EmbedderSettings}
    if section and section[0] in named:
        return iter(named[section[0]].model_fields)
    model: type[BaseModel] = Settings
    for part in section:
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return iter(model.model_fields)


def _host_problems(tree: Tree) -> Iterator[str]:
    """Yield why the server must not listen on this host; source: design, "who may do what"."""
    host = tree.get("host")
    if not isinstance(host, str) or host == "localhost":
        return
    if str(tree.get("allow_insecure", False)).lower() in ("true", "1", "yes", "on"):
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        yield (
            f"host: {host!r} is not a loopback address, and without authentication everyone who reaches "
            "it may read and write everything; use 127.0.0.1, or set allow_insecure = true"
        )


def _aliases(name: str, buckets: Mapping[str, BucketSettings]) -> tuple[str, ...]:
    aliases = buckets[name].aliases
    if aliases is not None:
        return aliases
    if name != PRIMARY:
        return ()
    taken = {*buckets, *(alias for bucket in buckets.values() for alias in bucket.aliases or ())}
    return tuple(alias for alias in PRIMARY_ALIASES if alias not in taken)


def _bucket_problems(tree: Any) -> Iterator[str]:
    """Yield what is wrong between buckets and in their names; what is in one is left to pydantic."""
    if not isinstance(tree, dict):
        return
    if PRIMARY not in tree:
        yield f"buckets: there must be one named {PRIMARY!r}"
    for name in tree:
        if not is_valid_name(name) and name != PROFILE_PATTERN:
            yield (
                f"buckets.{name}: not a bucket name: lower-case letters, digits, '_', '.' and '-', at most "
                f"63 of them, with one ':' between two such parts for a profile, or {PROFILE_PATTERN!r} for "
                f"profiles that are made; reserved are {', '.join(sorted(RESERVED_NAMES))}"
            )
    buckets = dict(_well_formed(tree))
    yield from _alias_problems(buckets)
    yield from _root_problems(buckets)


def _well_formed(tree: Tree) -> Iterator[tuple[str, BucketSettings]]:
    for name, values in tree.items():
        try:
            yield name, BucketSettings.model_validate(values)
        except ValidationError:
            continue


def _alias_problems(buckets: Mapping[str, BucketSettings]) -> Iterator[str]:
    owners = dict.fromkeys(buckets, "the name of a bucket")
    for name in buckets:
        for alias in _aliases(name, buckets):
            if not alias.isprintable() or alias != alias.strip():
                yield f"buckets.{name}.aliases: {alias!r} holds spaces at an end or control characters"
            if alias in owners:
                yield f"buckets.{name}.aliases: {alias!r} is already {owners[alias]}"
            owners[alias] = f"an alias of {name}"


def _root_problems(buckets: Mapping[str, BucketSettings]) -> Iterator[str]:
    owners: dict[Path, str] = {}
    for name, bucket in buckets.items():
        try:
            root = local_root(bucket.pattern.parent) if name == PROFILE_PATTERN else bucket.root
        except ValueError as error:
            yield f"buckets.{name}.uri: {error}"
            continue
        if root in owners:
            yield f"buckets.{name}.uri: the same folder as that of {owners[root]}"
        owners[root] = name
    parent = next((root for root, name in owners.items() if name == PROFILE_PATTERN), None)
    for root, name in owners.items():
        if parent is not None and root != parent and root.is_relative_to(parent):
            yield f"buckets.{name}.uri: lies where {PROFILE_PATTERN} makes buckets; give it another folder"
    if PROFILE_PATTERN in buckets and buckets[PROFILE_PATTERN].aliases:
        yield f"buckets.{PROFILE_PATTERN}.aliases: profiles that are made have none"
