"""Speed and accuracy of judging lines, compared with pydantic, pandera and Cerberus."""
