"""Releases: sealing, publishing, moving by hand, and tracing answers."""
