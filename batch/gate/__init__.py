"""The gate: what a candidate must be like to become the release (`rules.py`), and how that is found out."""
