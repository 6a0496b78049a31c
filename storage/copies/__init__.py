"""Copies of an installation in a folder: the database, the pictures, the vectors, each a module. Below the deployments."""
