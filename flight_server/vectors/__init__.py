"""Vector and text search: what profiles keep in memory, and their indexes in LanceDB."""
