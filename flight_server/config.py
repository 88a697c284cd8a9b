"""Settings: one frozen tree, read once and checked as a whole before anything starts.

Sources, weakest first: defaults, the TOML file that the caller names, the environment
(`FLIGHT_SERVER__SECTION__KEY`), the command line. No other file is read.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flight_server.domain.bucket import PROFILE_PATTERN, Bucket, BucketRegistry
from flight_server.domain.location import local_root
from flight_server.errors import InvalidArgumentError
from flight_server.settings.apart import apart_problems
from flight_server.settings.auth import AuthSettings
from flight_server.settings.buckets import BucketSettings, aliases, bucket_problems, default_buckets
from flight_server.settings.catalog import CatalogSettings
from flight_server.settings.embedders import EmbedderName, EmbedderSettings
from flight_server.settings.engine import EngineSettings, VectorSettings
from flight_server.settings.limits import LimitSettings
from flight_server.settings.listening import listening_problems
from flight_server.settings.section import Section, absolute
from flight_server.settings.tls import TlsSettings

ENVIRONMENT_PREFIX = "FLIGHT_SERVER__"

_JSON_STARTS = ("{", "[")
_WITH_SECRETS = ("auth", "embedders", "tls")
"""Sections whose values are not shown: somebody may have written a key there."""

Tree = dict[str, Any]


class ConfigError(InvalidArgumentError):
    """The configuration is wrong; `problems` says everything that is, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        super().__init__("\n  - ".join((f"the configuration has {count}:", *problems)))


class TelemetrySettings(Section):
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
    data_dir: Annotated[Path, AfterValidator(absolute)] = Path("data")
    buckets: dict[str, BucketSettings] = {}
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    catalog: CatalogSettings = CatalogSettings()
    limits: LimitSettings = LimitSettings()
    engine: EngineSettings = Field(default_factory=EngineSettings)
    vectors: VectorSettings = Field(default_factory=VectorSettings)
    embedders: dict[EmbedderName, EmbedderSettings] = {}
    telemetry: TelemetrySettings = TelemetrySettings()
    _config_file: Path | None = PrivateAttr(None)

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

    @property
    def secret_files(self) -> dict[str, Path]:
        """The files that nobody but the server may read, by the settings that name them."""
        files = {
            "catalog.url": Path(self.catalog_url.removeprefix("sqlite:///")).absolute(),
            "auth.users_file": self.auth.users_file,
            "tls.key": self.tls.key,
            "the configuration": self._config_file and self._config_file.absolute(),
        }
        return {setting: file for setting, file in files.items() if file is not None}

    def _apart_problems(self) -> Iterator[str]:
        if self.auth.is_on:
            registry = self.registry()
            roots = {bucket.name: local_root(bucket.uri) for bucket in registry.configured}
            if registry.pattern is not None:
                roots[PROFILE_PATTERN] = local_root(registry.pattern.parent)
            yield from apart_problems(roots, self.secret_files)

    def registry(self) -> BucketRegistry:
        """Return the configured buckets, or the default ones, with roots as `file://` URIs."""
        buckets = self.buckets or default_buckets(self.data_dir)
        made = buckets.get(PROFILE_PATTERN)
        return BucketRegistry(
            (
                Bucket(
                    name, bucket.root.as_uri(), aliases(name, buckets), bucket.read_only, bucket.quota_bytes
                )
                for name, bucket in buckets.items()
                if name != PROFILE_PATTERN
            ),
            made.pattern if made is not None else None,
        )


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
    problems += bucket_problems(tree.get("buckets"))
    problems += listening_problems(tree)
    try:
        settings = Settings(**tree)
        settings._config_file = config_file
        problems += settings._apart_problems()
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
    is_shown = details["type"] != "missing" and path[0] not in _WITH_SECRETS
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
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return iter(model.model_fields)
