"""Fault drills of a whole installation: what a drill is, the load that it happens under, and what must be true after each."""
