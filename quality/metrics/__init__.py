"""Pure arithmetic: ranking metrics, intervals, trends, watch sessions. Imports nothing else of this room."""
