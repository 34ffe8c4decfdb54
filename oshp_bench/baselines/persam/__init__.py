"""PerSAM: Segment Anything, personalised by one support."""
