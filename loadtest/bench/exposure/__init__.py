"""Whether having been shown helps or hurts a model in an evaluation."""
