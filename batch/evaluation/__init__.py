"""How good models and releases are: measured on held-out hours, and compared with each other."""
