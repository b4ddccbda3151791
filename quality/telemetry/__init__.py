"""Were the answers good? Reads the live stream, credits starts to answers, and writes the daily reports."""
