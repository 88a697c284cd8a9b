"""The datasets, their versions and where their objects lie, kept in a SQL database."""
