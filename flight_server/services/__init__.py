"""Use cases: what the handlers call, without a word of gRPC or Flight."""
