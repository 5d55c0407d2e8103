"""What `rlforge check environment` holds an environment to."""
