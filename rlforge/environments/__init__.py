"""The user's worlds, whatever their shape, in the Environment role."""
