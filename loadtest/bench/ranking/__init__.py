"""Quality of the models' lists, compared with textbook models."""
