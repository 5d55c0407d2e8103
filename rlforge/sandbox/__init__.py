"""A sandbox: code that nobody vouches for runs without network, foreign files or company, and not for long."""
