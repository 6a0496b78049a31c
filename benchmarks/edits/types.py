"""What an edit is: it takes a PIL image in RGB, a numpy generator and other pictures, and gives a PIL image in RGB."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

Picture = Image.Image
Random = np.random.Generator
Others = Sequence[Image.Image]
Edit = Callable[[Picture, Random, Others], Picture]
