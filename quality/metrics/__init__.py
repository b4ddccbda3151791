"""Pure arithmetic: ranking metrics, bootstrap intervals, watch sessions. Imports nothing else of this room."""
