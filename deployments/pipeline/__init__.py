"""What happens to a picture between upload and answer. May import vision, similarity, storage and configs."""
