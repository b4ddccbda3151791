"""The event log: one grammar, Kafka in and out, the Parquet archive and its ledger.

The lowest room: it imports no other. What every room needs and none owns lives here too, because all of them stand on
it: the errors' root, the settings loader, the service's zone and durable writes. `import stream` itself loads nothing.
"""

__version__ = "0.1.0"
