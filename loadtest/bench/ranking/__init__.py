"""How good lists are, beside textbook models."""
