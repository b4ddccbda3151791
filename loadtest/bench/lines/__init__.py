"""How fast and how accurately lines are judged, beside pydantic, pandera and Cerberus."""
