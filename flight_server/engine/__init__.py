"""DuckDB: locked instances, the parse that gates and names, hidden relations, results."""
