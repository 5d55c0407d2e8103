"""Puts environments and scorers behind an address."""
