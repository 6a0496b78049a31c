"""How deployments and jobs are composed. May import everything below it."""
