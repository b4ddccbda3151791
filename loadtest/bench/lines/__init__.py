"""How fast and how right lines are judged, beside pydantic, pandera and Cerberus."""
