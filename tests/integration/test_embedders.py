"""Embedders: how they are made by their settings, and what each must return."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flight_server.config import ConfigError, load
from flight_server.errors import FailedPreconditionError, InvalidArgumentError
from flight_server.vectors.embedding import Embedders


class Lengths:
    """An embedder of one's own: a text has as many dimensions as it needs to tell its length."""

    name, ndims, metric = "lengths", 2, "l2"

    def embed(self, texts: list[str]) -> "pa.FixedSizeListArray[Any, Any]":
        flat = [value for text in texts for value in (float(len(text)), float(len(text) > 3))]
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), 2)


class Broken(Lengths):
    def embed(self, texts: list[str]) -> Any:
        return pa.array([[1.0]] * len(texts))


def made_by(factory: str) -> Embedders:
    return Embedders({"own": {"factory": factory}})


def test_a_factory_makes_an_embedder() -> None:
    embedders = made_by(f"{__name__}:Lengths")
    assert embedders.query("own", ["abcd", "xy"]).tolist() == [[4, 1], [2, 0]]
    assert np.isnan(embedders.vectors("own", [""])).all()
    with pytest.raises(InvalidArgumentError, match="makes no vector of the text ''"):
        embedders.query("own", [""])


@pytest.mark.parametrize("factory", ["no_such_module:x", f"{__name__}:nothing", f"{__name__}:test_a_factory"])
def test_a_factory_that_cannot_be_used_is_named(factory: str) -> None:
    with pytest.raises(FailedPreconditionError, match="embedder own cannot be made by"):
        made_by(factory).get("own")


def test_an_embedder_that_returns_something_else_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match=r"must return 2 vectors as fixed_size_list"):
        made_by(f"{__name__}:Broken").vectors("own", ["a", "b"])


def test_unknown_embedders_are_refused_with_those_there_are() -> None:
    with pytest.raises(FailedPreconditionError, match="'other' is not configured here; there are: wordllama"):
        Embedders({}).get("other")


def test_the_embedder_that_comes_along_knows_what_is_alike() -> None:
    pytest.importorskip("wordllama")
    embedders = Embedders({})
    cat, kitten, stocks = embedders.query("wordllama", ["a cat", "a small kitten", "stock market"])
    assert embedders.get("wordllama").ndims == 256
    assert cat @ cat == pytest.approx(1)
    assert cat @ kitten > cat @ stocks


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "https://host/v1"}, "needs the name of a 'model'"),
        ({"api_key": "sk-secret"}, "needs either a 'factory' or a 'url'"),
        ({"url": "ftp://host", "api_key": "sk-secret"}, "should match pattern"),
        ({"key": "sk-secret"}, "unknown setting; known here: factory, url, model, api_key"),
        ({"factory": "a:b", "api_key": ["sk-secret"]}, "valid string"),
    ],
)
def test_wrong_settings_are_explained_without_the_key(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load(None, {"embedders": {"own": settings}})
    assert "sk-secret" not in str(refused.value)
