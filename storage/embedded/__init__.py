"""Launchers of the real PostgreSQL and S3 servers that wheels ship. May import configs only."""
