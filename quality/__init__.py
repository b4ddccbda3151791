"""What good data is and what good answers are: ranking metrics, intervals, and the figures of the live stream.

Imports `stream` only. `lines` judges lines, `alerts` tells people, `telemetry` judges answers, `metrics` is arithmetic
alone. `import quality` itself loads nothing.
"""
