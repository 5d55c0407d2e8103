"""Generated from protos/rlforge/v1 by `make protos`; not to be edited."""
