"""Accuracy and speed, each a command that prints its table. May import everything."""
