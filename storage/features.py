"""Where the details of a stored picture lie that verification compares: an object beside it, made anew where missing."""

FEATURES_PREFIX = "features/"
IMAGES_PREFIX = "images/"
_FOREIGN = "s3://"
_SUFFIX = ".sift"


def features_key(s3_path: str) -> str:
    """The key of the details of the picture under ``s3_path``, which may be ``s3://bucket/key``."""
    return f"{FEATURES_PREFIX}{s3_path.removeprefix(IMAGES_PREFIX).removeprefix(_FOREIGN)}{_SUFFIX}"


def picture_of(key: str) -> str:
    """The ``s3_path`` whose details lie under ``key``: the reverse of ``features_key``.

    A picture of ours has no slash behind its prefix; one of another bucket has one behind the name of the bucket.
    """
    name = key.removeprefix(FEATURES_PREFIX).removesuffix(_SUFFIX)
    return f"{_FOREIGN if '/' in name else IMAGES_PREFIX}{name}"
