"""How good the models' lists are, beside textbook models."""
