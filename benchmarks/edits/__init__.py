"""What people do to pictures before they post them again: named edits for the demo and the measurements.

Each takes and gives a PIL image in RGB; other pictures and a numpy generator make them differ. In the spirit of DISC21
(Douze et al. 2021) and Copydays-strong (Douze et al. 2009).
"""

from benchmarks.edits.compositions import background_swap, blend50, collage4, pasted
from benchmarks.edits.drawings import edge_map, painting, pencil_sketch
from benchmarks.edits.geometric import crop_to, mirror, perspective, quarter_turn, rotate15
from benchmarks.edits.overlays import border, emoji, meme, overlay_text, screenshot
from benchmarks.edits.photometric import blur, greyscale, jpeg10, recolour, shrink, strong_colour
from benchmarks.edits.restyle import METHODS, style_crop, style_frame
from benchmarks.edits.types import Edit, Others, Picture, Random

EVERYDAY: dict[str, Edit] = {
    "jpeg10": jpeg10,
    "shrink": shrink,
    "crop70": crop_to(0.7),
    "crop50": crop_to(0.5),
    "mirror": mirror,
    "quarter_turn": quarter_turn,
    "blur": blur,
    "recolour": recolour,
    "greyscale": greyscale,
    "meme": meme,
    "border": border,
    "overlay_text": overlay_text,
    "pasted": pasted,
}
"""The edits of the demo and of the tests of the running service."""

SINGLE: dict[str, Edit] = {
    "jpeg10": jpeg10,
    "shrink": shrink,
    "crop50": crop_to(0.5),
    "crop20": crop_to(0.2),
    "rotate15": rotate15,
    "quarter_turn": quarter_turn,
    "mirror": mirror,
    "perspective": perspective,
    "blur": blur,
    "strong_colour": strong_colour,
    "greyscale": greyscale,
    "overlay_text": overlay_text,
    "emoji": emoji,
    "meme": meme,
    "border": border,
    "screenshot": screenshot,
    "pasted": pasted,
    "collage4": collage4,
    "blend50": blend50,
    "background_swap": background_swap,
    "pencil_sketch": pencil_sketch,
    "painting": painting,
    "edge_map": edge_map,
    **METHODS,
    "style_crop": style_crop,
    "style_frame": style_frame,
}

_MILD = ("jpeg10", "crop50", "rotate15", "mirror", "blur", "strong_colour", "greyscale", "overlay_text", "emoji", "meme",
         "border", "screenshot", "pasted", "perspective", "blend50")  # fmt: skip


def three(picture: Picture, rng: Random, others: Others) -> Picture:
    """Three different ones of the edits that leave something to see, one after another."""
    for place in rng.choice(len(_MILD), 3, replace=False):
        picture = SINGLE[_MILD[int(place)]](picture, rng, others)
    return picture


EDITS: dict[str, Edit] = {**SINGLE, "three": three}
"""Every edit of the accuracy benchmark."""

__all__ = ["EDITS", "EVERYDAY", "SINGLE", "Edit", "Others", "Picture", "Random", "three"]
