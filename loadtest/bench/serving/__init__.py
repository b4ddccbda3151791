"""How fast answers are, beside nginx and other servers, and what they survive."""
