"""Where the local features of a stored picture lie: an object beside it, made anew from the picture where it is missing."""

FEATURES_PREFIX = "features/"


def features_key(s3_path: str) -> str:
    """The key of the local features of the picture under ``s3_path``."""
    return f"{FEATURES_PREFIX}{s3_path.removeprefix('images/')}.sift"
