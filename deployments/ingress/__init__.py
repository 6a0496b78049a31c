"""The REST API: routes, schemas, keys, errors. No model, no blocking work on the loop."""
