"""What all sections of the settings share."""

import os
from pathlib import Path

from pydantic import BaseModel, ByteSize, ConfigDict

MIB = 1024 * 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Section(BaseModel):
    """A part of the settings: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def default_memory() -> ByteSize:
    """Return half of the memory that this machine or container has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return ByteSize(min(physical, int(limit) if limit.isdecimal() else physical) // 2)


def absolute(path: Path) -> Path:
    """Return a path that does not depend on the current directory."""
    return path.expanduser().absolute()
