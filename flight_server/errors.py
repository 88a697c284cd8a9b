"""The error tree: every failure that a client may see is one of these classes.

LakehouseError
├── InvalidArgumentError       the request cannot be understood: syntax, names, types, headers
│   └── SchemaMismatchError    an upload's columns are not the dataset's
├── NotFoundError              a bucket, dataset, handle or transaction does not exist for this caller
├── AlreadyExistsError         creating something whose name is taken
├── PermissionDeniedError      visible to the caller, but the verb is not granted
├── UnauthenticatedError       the credentials are missing, wrong or expired
├── FailedPreconditionError    the state of the server or of the data does not allow it
├── ConflictError              what this started from has moved: start again
│   └── StateLostError         the temporary state of a session is gone
├── ResourceExhaustedError     a limit was reached
│   └── QuotaExceededError     a bucket has no room for what a commit brings
├── UnavailableError           a bucket, an engine process or the server is down; try again
├── DeadlineExceededError      the statement ran out of time
├── CallCancelledError         the statement was cancelled
├── UnimplementedError         a part of the protocol or of SQL that this server does not serve
└── InternalError              a bug of ours

`flight/wire/status.py` is the only place that turns these into gRPC status codes.
"""


class LakehouseError(Exception):
    """Base of all errors whose message is written for the client.

    The message says what was wrong and what would be right; it never holds a server path,
    a traceback or a secret.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgumentError(LakehouseError):
    """The request cannot be understood."""


class SchemaMismatchError(InvalidArgumentError):
    """An upload's columns are not the dataset's."""


class NotFoundError(LakehouseError):
    """The thing named does not exist for this caller."""


class AlreadyExistsError(LakehouseError):
    """The name is taken."""


class PermissionDeniedError(LakehouseError):
    """The caller may see the thing but not do this to it."""


class UnauthenticatedError(LakehouseError):
    """The credentials are missing, wrong or expired."""


class FailedPreconditionError(LakehouseError):
    """The state of the server or of the data does not allow the request."""


class ConflictError(LakehouseError):
    """A concurrent commit changed what this one started from."""


class StateLostError(ConflictError):
    """The temporary state of a session is gone, with the engine process that kept it."""


class ResourceExhaustedError(LakehouseError):
    """A limit was reached."""


class QuotaExceededError(ResourceExhaustedError):
    """A bucket has no room for what a commit brings; the commit was not made."""


class UnavailableError(LakehouseError):
    """Something that the request needs is down; trying again may help."""


class DeadlineExceededError(LakehouseError):
    """The time allowed for the request is over."""


class CallCancelledError(LakehouseError):
    """The request was cancelled."""


class UnimplementedError(LakehouseError):
    """A part of the protocol or of SQL that this server does not serve."""


class InternalError(LakehouseError):
    """A bug of ours."""


BY_NAME: dict[str, type[LakehouseError]] = {
    error.__name__: error for error in (*LakehouseError.__subclasses__(), SchemaMismatchError, StateLostError)
}
"""Class name → class: how an error of an engine process is raised again in the gateway."""
