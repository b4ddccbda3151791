"""How long a night takes, and how much memory, as the service grows."""
