"""Landlock, the part of Linux by which a process gives up files and networks for good.

See https://docs.kernel.org/userspace-api/landlock.html. What a process gives up stays so for all that it
executes. Used before any library has started a thread, so it imports none.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_VERSION_FLAG = 1
_NO_NEW_PRIVILEGES = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE

_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
"""ABI → how many rights of files it knows; since the fifth there are 16."""

_TCP_SINCE, _SCOPES_SINCE = 4, 6
_BIND, _CONNECT = 1, 2
_SCOPES = 0b11
"""Abstract Unix sockets and signals of others."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def version() -> int:
    """Return the version of Landlock's interface that this kernel has, 0 when it has none."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[str, int]], *, may_connect: bool) -> None:
    """Give up all files but those of some paths, with their rights, and TCP; for good.

    Paths that are not there are passed over. Raises OSError where the kernel refuses.
    """
    abi = version()
    handled = (1 << _FS_BITS.get(abi, 16)) - 1
    tcp = (_BIND if may_connect else _BIND | _CONNECT) if abi >= _TCP_SINCE else 0
    scopes = _SCOPES if abi >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", handled, tcp, scopes)
    size = 8 + 8 * (abi >= _TCP_SINCE) + 8 * (abi >= _SCOPES_SINCE)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
