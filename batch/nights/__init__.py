"""The nightly run: its steps, journal, schedule and outcomes, and its hold by alerts."""
