"""The data for the models: sessions by day, and interactions by user and movie."""
