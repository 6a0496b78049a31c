"""What each hop of a request costs: a Serve application that does nothing, clients that measure, and the comparison."""
