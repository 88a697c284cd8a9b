"""What is said of storage that fails: which bucket and why, never where it lies."""

import errno
import os

from flight_server.errors import FailedPreconditionError, LakehouseError, ResourceExhaustedError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def storage_failure(bucket: str, number: int | None) -> LakehouseError:
    """Return our error for a number of the operating system, None where it told none."""
    if number in _FULL:
        return ResourceExhaustedError(f"bucket {bucket} has no space left")
    return FailedPreconditionError(f"bucket {bucket} cannot be used: {os.strerror(number or errno.EIO)}")
