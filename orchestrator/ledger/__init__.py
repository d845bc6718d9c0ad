"""The bill that survives: SQLite, double entry, one writing thread."""
