"""Vector search: readers that answer and the one fenced writer. May import storage and configs only."""
