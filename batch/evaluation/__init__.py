"""Measures models and releases on held-out hours, and compares them with each other."""
