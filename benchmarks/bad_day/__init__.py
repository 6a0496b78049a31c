"""The operator's bad day: causes are planted in a running service, and found by alerts, panels and the runbook alone."""
