"""Judges data and answers: checks of lines, alerts, ranking metrics, intervals, and the figures of the live stream.

Imports `stream` only. `lines` judges lines, `alerts` raises and posts alerts, `telemetry` judges answers, `metrics` is
pure arithmetic. `import quality` itself loads nothing.
"""
