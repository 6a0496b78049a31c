"""Tests of the sender of webhooks."""
