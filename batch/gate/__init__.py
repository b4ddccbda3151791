"""The gate: the rules that a candidate must pass to become current (`rules.py`), and the checks behind them."""
