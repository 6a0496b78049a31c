"""PostgreSQL tables and queries, S3 objects, LanceDB vectors, the embedded servers. May import configs only."""
