"""Sending events to webhooks: signed, to checked addresses only, at least once. Only replica.py knows Ray."""
