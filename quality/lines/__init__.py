"""Is a line good? Schemas, checks, repair and quarantine of the lines of the stream."""
