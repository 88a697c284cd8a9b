"""Arrow Flight SQL over grpc.aio; the only package that knows gRPC and protobuf."""
