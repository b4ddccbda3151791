"""Archives of MovieLens as sessions by day, so that anyone can compare with published results."""
