"""What operators see of the service: the metrics' list, how they are recorded, and what PostgreSQL is asked for them."""
