"""The simulated movie service: its world, people, visits, stream and record APIs."""
