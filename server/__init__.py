"""Serving: answers from a release. A worker stays light: it imports no pandas, no pyarrow and nothing of `batch`."""
