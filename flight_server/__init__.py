"""Arrow Flight SQL over many object-store buckets."""

__version__ = "0.1.0"
