"""Collecting: from Kafka and the service's APIs into the archive and the catalogue."""
