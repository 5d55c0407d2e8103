"""What `rlforge check reward` holds a reward endpoint to."""
