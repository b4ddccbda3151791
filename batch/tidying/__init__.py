"""Retention: what of `var` goes when, by policy, and first where the disk is short."""
