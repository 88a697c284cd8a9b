"""Writes uploads as objects."""

from collections.abc import Iterator

import pyarrow as pa

from flight_server.engine.computed_columns import check_upload
from flight_server.errors import InvalidArgumentError
from flight_server.frames.frame import Frame
from flight_server.objects.parquet import DatasetWriter
from flight_server.objects.schema import Conformer
from flight_server.objects.store import ObjectStore
from flight_server.objects.upload import ContentDigest, UploadReader


def written(store: ObjectStore, request: Frame, messages: Iterator[bytes]) -> tuple[DatasetWriter, Frame]:
    """Write the messages of an upload as objects; return what wrote them, and what to tell of them.

    Objects of one that fails are removed. Raises InvalidArgumentError.
    """
    writer: DatasetWriter | None = None
    try:
        digest = ContentDigest() if request.fields["is_digested"] else None
        followed = digest.following(messages) if digest else messages
        reader = UploadReader(followed)
        target = pa.ipc.read_schema(pa.py_buffer(request.payload)) if request.payload else None
        conformer = Conformer(reader.schema, target, evolves=request.fields["evolves"])
        writer = DatasetWriter(
            store, request.fields["dataset_id"], conformer.schema, room=request.fields["room"]
        )
        for batch in reader:
            conformed = conformer.conform(batch)
            check_upload(conformer.schema, conformed)
            writer.write(conformed)
        if next(followed, None) is not None:
            raise InvalidArgumentError("the upload goes on after the mark that ends its Arrow stream")
        objects = [[stored.key, stored.rows, stored.bytes, stored.checksum] for stored in writer.finish()]
    except BaseException as error:
        if writer is not None:
            writer.discard()
        if isinstance(error, pa.ArrowException | ValueError | OverflowError):
            # Whatever Arrow cannot make sense of, wherever it notices, came from the client.
            raise InvalidArgumentError(f"the upload cannot be stored: {error}") from error
        raise
    schema = conformer.schema.remove_metadata().serialize().to_pybytes()
    fields = {"objects": objects, "digest": digest.value if digest else ""}
    return writer, Frame("stored", fields, schema)
