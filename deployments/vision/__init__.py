"""Model code that knows nothing of Ray. May import configs only."""
