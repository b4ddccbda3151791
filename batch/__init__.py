"""Collecting and the night: Kafka and the APIs to the archive and the catalogue, the archive to a release."""
