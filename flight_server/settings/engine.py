"""What engine processes may use."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ByteSize, Field

from flight_server.settings.section import MIB, Section, absolute, default_memory


class EngineSettings(Section):
    """What the engine processes together may use, and how many there are.

    Callers who may reach the same buckets share one; `max_processes` are at work at most, and each has its
    part of memory and temporary files. Without authentication there is one, which has all.
    `user` is a user of this machine that they run as, for which the server has to be started by root.
    `reads` are more folders that they may read, such as those of a model that an embedder's factory loads.
    """

    memory: ByteSize = Field(default_factory=default_memory, ge=64 * MIB)
    temp_bytes: ByteSize = Field(default=ByteSize(20 * 1024 * MIB), ge=0)
    spares: int = Field(default=1, ge=0, le=8)
    max_processes: int = Field(default=8, ge=1, le=256)
    user: str | None = None
    reads: tuple[Annotated[Path, AfterValidator(absolute)], ...] = ()


class VectorSettings(Section):
    """What searches of vectors may keep in memory, in bytes; the profile used least recently goes first.

    Indexes are brought up to date when nobody has committed for `catch_up_after` seconds, 0 means never.
    """

    memory: ByteSize = Field(default_factory=lambda: ByteSize(default_memory() // 4), ge=MIB)
    catch_up_after: float = Field(default=2, ge=0, le=3600, allow_inf_nan=False)
