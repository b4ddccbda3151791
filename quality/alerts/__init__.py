"""Who is told? Thresholds on the ledger, the file of open alerts, the webhook, and metrics for Prometheus."""
