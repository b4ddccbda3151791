"""Pure arithmetic: ranking metrics, intervals, watch sessions. Imports nothing else of this room."""
