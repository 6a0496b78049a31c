"""The load test: Locust's users (in Locust's own environment), the steps they are driven in, what is read from them."""
