"""The nightly run: its steps, journal, schedule and outcomes, and what holds it."""
