"""The scorers `grpc` and `http`: an endpoint that may be down, busy or slow; judges wait for theirs in the same way."""
