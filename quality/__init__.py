"""What good data is and what good answers are: ranking metrics, intervals, and the figures of the live stream.

Imports `stream` only. Pure logic (`ranking`, `bootstrap`, `sessions`, `join`, `page`) stands apart from what keeps
state (`store`, `intake`) and from the process (`telemetry`). `import quality` itself loads nothing.
"""
