"""Where the details of a stored picture lie that verification compares: an object beside it, made anew where missing."""

from hashlib import sha256

from storage.objects import is_elsewhere

FEATURES_PREFIX = "features/"


def features_key(s3_path: str) -> str:
    """The key of the details of the picture under ``s3_path``; of one in a corpus under a hash: keys there can be long."""
    if is_elsewhere(s3_path):
        digest = sha256(s3_path.encode()).hexdigest()
        return f"{FEATURES_PREFIX}corpus/{digest[:2]}/{digest[2:]}.sift"
    return f"{FEATURES_PREFIX}{s3_path.removeprefix('images/')}.sift"
