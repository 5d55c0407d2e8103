"""The protocol of protos/rlforge/v1: our values to messages and back."""
