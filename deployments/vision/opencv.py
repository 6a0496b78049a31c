"""How OpenCV behaves in a replica."""

import cv2


def limit_opencv_threads(threads: int = 1) -> None:
    """OpenCV takes every core unless told otherwise; replicas call this once."""
    cv2.setNumThreads(threads)
