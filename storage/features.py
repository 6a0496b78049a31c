"""Where the details of a stored picture lie that verification compares: an object beside it, made anew where missing."""

FEATURES_PREFIX = "features/"


def features_key(s3_path: str) -> str:
    """The key of the details of the picture under ``s3_path``."""
    return f"{FEATURES_PREFIX}{s3_path.removeprefix('images/')}.sift"
