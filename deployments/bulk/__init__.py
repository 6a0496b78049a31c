"""What bulk jobs do with units of pictures, as classes that Ray Data runs in pools; graphs/backfill.py composes them."""
