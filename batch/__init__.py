"""Collecting and the night: from Kafka and the APIs to archive and catalogue, and from the archive to a release."""
