"""Releases: sealed, made current, moved by hand, and asked where an answer came from."""
