"""Where state is kept: counts in memory, of a host, in Redis; rows in SQLite or PostgreSQL."""
