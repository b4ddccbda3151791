"""What holds for all tests: hypothesis finds faults, not slow machines."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine",
    settings(),  # the profile that was chosen: hypothesis has one of its own for CI
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("any machine")
