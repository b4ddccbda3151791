"""Serving: a release to answers. Light: a worker loads no pandas and no pyarrow, and nothing of `batch`."""
