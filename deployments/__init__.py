"""What runs as Ray Serve replicas. May import storage and configs only."""
