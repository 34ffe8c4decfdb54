"""The version of this package; it stands in every file that a tool of ours writes."""

__version__ = "0.2.0"
