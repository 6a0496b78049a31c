"""Training of the copy descriptor: pictures, edited views, network, loss, training loop, export."""
