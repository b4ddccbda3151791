"""Cost and latency of answers, compared with nginx and other servers, and behaviour under disturbances."""
