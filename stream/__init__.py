"""The event log: one grammar, Kafka in and out, the Parquet archive and its ledger.

The lowest room: it imports no other room, so it also has what all rooms need: the root of all errors, the settings
loader, the service's time zone and durable writes. `import stream` itself loads nothing.
"""

__version__ = "0.1.0"
