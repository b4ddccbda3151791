"""Releases: built, published, moved by hand, and traced back to their data."""
