"""Pure translation between bytes on the wire and values."""
