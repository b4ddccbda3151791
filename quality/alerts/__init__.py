"""Alerts: thresholds on the ledger, the alert file, the webhook, and metrics for Prometheus."""
