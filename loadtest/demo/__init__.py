"""The demo: Marquee's whole loop on real processes, in a few minutes."""
