"""How fast answers are, beside nginx and other servers, and what disturbances workers survive."""
