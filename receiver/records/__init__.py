"""The database: its tables and migrations, the two engines it runs on, and what is kept encrypted in it."""
