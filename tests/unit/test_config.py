import json
from pathlib import Path
from typing import Any

import pytest

from flight_server.config import ConfigError, Settings, load
from flight_server.domain.identity import LOCAL
from flight_server.settings.limits import LimitSettings


def write(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(text)
    return path


def problems_of(toml: str, folder: Path, **overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, toml), overrides)
    return caught.value.message


def test_defaults_are_local_and_have_three_buckets(tmp_path: Path) -> None:
    settings = load(None, {"data_dir": tmp_path})
    roots = {bucket.name: bucket.uri for bucket in settings.registry()}
    assert (settings.host, settings.port) == ("127.0.0.1", 31337)
    assert roots == {
        "primary": (tmp_path / "primary").as_uri(),
        "testing": (tmp_path / "_testing").as_uri(),
        "profile:user": (tmp_path / "_profile_user").as_uri(),
    }
    assert settings.registry().resolve(LOCAL, "data").name == "primary"
    assert settings.catalog_url == f"sqlite:///{tmp_path}/catalog.db"


def test_a_file_in_the_current_folder_is_not_read_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "port = 1")
    (tmp_path / ".env").write_text("FLIGHT_SERVER__PORT=1")
    assert load(None, {}).port == 31337


def test_command_line_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "port = 1\n[limits]\nsessions = 1\ndrain = 1\n[engine]\nmemory = '2GB'")
    monkeypatch.setenv("FLIGHT_SERVER__PORT", "2")
    monkeypatch.setenv("FLIGHT_SERVER__LIMITS__SESSIONS", "2")
    settings = load(file, {"port": 3})
    assert (settings.port, settings.limits.sessions, settings.limits.drain) == (3, 2, 1)
    assert settings.engine.memory == 2_000_000_000
    assert settings.limits.session_idle == Settings().limits.session_idle


def test_buckets_come_as_json_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = {"primary": {"uri": str(tmp_path / "a b")}, "profile:x": {"uri": f"file://{tmp_path}/x"}}
    monkeypatch.setenv("FLIGHT_SERVER__BUCKETS", json.dumps(buckets))
    registry = load(None, {}).registry()
    assert registry.names == ("primary", "profile:x")
    assert registry.resolve(LOCAL, "").uri == f"file://{tmp_path}/a%20b"


def test_all_problems_of_all_sources_are_reported_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHT_SERVER__LIMITS__SESIONS", "2")
    monkeypatch.setenv("FLIGHT_SERVER__NOPE", "2")
    monkeypatch.setenv("FLIGHT_SERVER__BUCKETS", "{not json")
    message = problems_of(
        """
        host = "0.0.0.0"
        porrt = 1
        [catalog]
        url = "mysql://x"
        [engine]
        memory = "lots"
        [buckets.primary]
        uri = "s3://x/y"
        [buckets.Bad]
        uri = "/a"
        colour = "red"
        """,
        tmp_path,
        port=70000,
    )
    expected = [
        "limits.sesions (environment): unknown setting; known here: message_bytes",
        "nope (environment): unknown setting",
        "FLIGHT_SERVER__BUCKETS is not JSON",
        "host: '0.0.0.0' is not a loopback address",
        "porrt (",
        "catalog.url (",
        "engine.memory (",
        "buckets.primary.uri: s3:// is not served by this version",
        "buckets.Bad: not a bucket name",
        "buckets.Bad.colour (",
        "port (command line): ",
    ]
    assert [text for text in expected if text not in message] == []
    assert message.startswith("the configuration has 11 problems:")


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[buckets.testing]\nuri = '/a'", "there must be one named 'primary'"),
        ("[buckets.primary]\nuri = ''", "the uri is empty"),
        ("[buckets.primary]\nread_only = true", "buckets.primary.uri"),
        ("[buckets.primary]\nuri = 'file://host/a'", "a file URI needs an absolute path"),
        ("[buckets.primary]\nuri='/a'\n[buckets.b]\nuri='/b'\naliases=['primary']", "already the name of a"),
        ("[buckets.primary]\nuri='/a'\naliases=['x']\n[buckets.b]\nuri='/b'\naliases=['x']", "an alias of p"),
        ("[buckets.primary]\nuri='/a'\naliases=[' x']", "holds spaces"),
        ("[buckets.primary]\nuri='/a'\n[buckets.b]\nuri='/c/../a'", "the same folder as that of primary"),
        ("[buckets.primary]\nuri='/a'\n[buckets.sys]\nuri='/b'", "reserved are"),
        ("host = 'example.org'", "not a loopback address"),
        ("port = [", "is not TOML"),
        ("[auth.jwt]\nissuer='x'\naudience='y'", "needs either a 'jwks_url' or a 'public_key_file'"),
        ("[auth.jwt]\nisuer='x'", "unknown setting; known here: issuer, audience"),
        ("[auth.jwt]\nissuer='x'\naudience='y'\npublic_key_file='k'\nalgorithms=['HS256']", "auth.jwt.algor"),
        ("[auth]\nself_grants=['x=fly']", "'x=fly' is no grant"),
        ("[tls]\ncertificate='/a'", "a 'certificate' needs its 'key'"),
        ("[tls]\nclient_ca='/a'", "'client_ca' needs a 'certificate' of the server"),
    ],
)
def test_wrong_configuration_is_refused(toml: str, problem: str, tmp_path: Path) -> None:
    assert problem in problems_of(toml, tmp_path)


def test_a_missing_file_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", {})


def test_primary_keeps_its_aliases_unless_another_bucket_has_them(tmp_path: Path) -> None:
    toml = "[buckets.primary]\nuri='/a'\n[buckets.data]\nuri='/b'\n[buckets.c]\nuri='/c'\naliases=['local']"
    registry = load(write(tmp_path, toml), {}).registry()
    assert [registry.resolve(LOCAL, name).name for name in ("", "data", "local")] == ["primary", "data", "c"]


def test_values_that_may_be_secrets_are_not_shown(tmp_path: Path) -> None:
    message = problems_of("[auth.jwt]\nissuer='x'\njwks_url='http://user:hidden@host'", tmp_path)
    assert "auth.jwt.jwks_url" in message
    assert "hidden" not in message


def test_a_public_address_needs_the_explicit_word(tmp_path: Path) -> None:
    assert load(write(tmp_path, "host = '0.0.0.0'\nallow_insecure = true"), {}).host == "0.0.0.0"  # noqa: S104
    assert load(write(tmp_path, "host = '::1'"), {}).host == "::1"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().limits.sessions = 3


def test_with_users_buckets_and_what_the_server_keeps_lie_apart(tmp_path: Path) -> None:
    nested = (
        f'[buckets.primary]\nuri = "{tmp_path}/data"\n[buckets.testing]\nuri = "{tmp_path}/data/_testing"\n'
    )
    assert load(write(tmp_path, nested), {"data_dir": tmp_path / "data"}).registry()
    users = f'[auth]\nusers_file = "{tmp_path}/users.json"\n'
    problems = problems_of(nested + users, tmp_path, data_dir=tmp_path / "data")
    assert "buckets.testing.uri: lies in primary" in problems
    assert "catalog.url: lies in bucket primary" in problems
    assert "users_file" not in problems
    assert load(write(tmp_path, users), {"data_dir": tmp_path / "data"}).auth.is_on


def test_where_users_log_in_no_statement_works_for_ever() -> None:
    left_out, none, own = (
        LimitSettings(),
        LimitSettings(statement_timeout=0),
        LimitSettings(statement_timeout=5),
    )
    assert [each.longest_work(has_users=True) for each in (left_out, none, own)] == [600, None, 5]
    assert [each.longest_work(has_users=False) for each in (left_out, none, own)] == [None, None, 5]
