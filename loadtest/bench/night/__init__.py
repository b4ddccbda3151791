"""Time and memory of a night as the service grows."""
