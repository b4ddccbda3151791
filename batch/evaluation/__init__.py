"""What models and releases are worth: on held-out hours, side by side, and against each other."""
