"""The REST API. Imports the pipeline's result type, decoding, storage and configs; no network, no vectors."""
