"""Real short texts as vectors, questions that are not among them, and the exact answers."""

import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from benchmarks.measure import LeftOutError
from flight_server.cli.diagnoses import read_diagnoses
from flight_server.vectors.embedding_wordllama import WordllamaEmbedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"
Ints: TypeAlias = "NDArray[np.int64]"

K = 10
AUTHORS = 1_000

_SEED = 5
_MOST_LETTERS = 200
_TOLERANCE = 1e-5
"""How much further than the last exact answer another may be and still count, as in ann-benchmarks."""

_BATCH = 4_096
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_SENTENCE = re.compile(
    r"(?:^|(?<=[.:?!]\s)|(?<=\n))\s*([A-Z][a-z]*(?:\s+[\w,;:()'`/*-]+){3,40}\.)(?=\s|$)",
)


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts with unit vectors [rows, dim], vectors to search for, and the k nearest rows to each of them."""

    texts: Sequence[str]
    vectors: Floats
    queries: Floats
    truth: Ints

    def table(self) -> pa.Table:
        """Return the rows as they are uploaded: id, author, text, vector."""
        ids = pa.array(range(len(self.texts)), pa.int64())
        authors = pa.array((number % AUTHORS for number in range(len(self.texts))), pa.int64())
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), self.vectors.shape[1])
        names = ["id", "author", "text", "vector"]
        return pa.Table.from_arrays([ids, authors, pa.array(self.texts), vectors], names)

    def recall(self, found: Sequence[Ints]) -> float:
        """Return the share of the nearest rows that answers to the first queries have; ties count."""
        shares = []
        for query, truth, rows in zip(self.queries, self.truth, found, strict=False):
            least = float((self.vectors[truth] @ query).min()) - _TOLERANCE
            shares.append(float((self.vectors[rows[:K]] @ query >= least).sum()) / K)
        return sum(shares) / len(shares)


def collection(rows: int, queries: int) -> Collection:
    """Embed so many texts, and others to search for. Raises LeftOutError when fewer are installed."""
    wanted = rows + queries
    texts = list(islice(dict.fromkeys(chain(_diagnoses(), _sentences())), wanted))
    if len(texts) < wanted:
        raise LeftOutError(f"needs {wanted:,} short texts, there are {len(texts):,}")
    order = np.random.default_rng(_SEED).permutation(wanted)
    texts = [texts[at] for at in order]
    vectors = _embedded(texts)
    return Collection(texts[:rows], vectors[:rows], vectors[rows:], _nearest(vectors[:rows], vectors[rows:]))


def _diagnoses() -> list[str]:
    return [str(text) for text in read_diagnoses()[0]["text"].to_pylist()]


def _sentences() -> Iterator[str]:
    """Yield whole sentences from the documentation of the installed packages, in order of their files."""
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        for docstring in _DOCSTRING.finditer(path.read_text(encoding="utf-8", errors="ignore")):
            for sentence in _SENTENCE.findall(docstring[1]):
                if len(sentence) <= _MOST_LETTERS:
                    yield " ".join(sentence.split())


def _embedded(texts: Sequence[str]) -> Floats:
    embedder = WordllamaEmbedder()
    parts = [
        embedder.embed([*texts[at : at + _BATCH]]).flatten().to_numpy() for at in range(0, len(texts), _BATCH)
    ]
    found: Floats = np.concatenate(parts).reshape(len(texts), embedder.ndims)
    return found


def _nearest(vectors: Floats, queries: Floats) -> Ints:
    """Return the nearest rows to each query, by comparing all; all vectors have length 1."""
    found = [np.argpartition(-(vectors @ query), K)[:K] for query in queries]
    return np.array(found)
