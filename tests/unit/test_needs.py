from pathlib import Path

import pytest

from tests import needs


def test_what_is_missing_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Path("/nonexistent/driver.jar")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the driver is missing: run `make clients`"):
        needs.installed(absent, "the driver", "run `make clients`")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="the driver is missing: run `make clients`"):
        needs.installed(absent, "the driver", "run `make clients`")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is missing"):
        needs.program("no-such-program", "install it")


def test_what_is_there_is_found() -> None:
    assert needs.installed(Path(__file__), "this file", "") == Path(__file__)
    assert needs.program("sh", "").endswith("/sh")
