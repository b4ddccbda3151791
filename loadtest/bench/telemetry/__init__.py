"""The benchmark of telemetry."""
