"""Synthetic pictures of thin and compact structures, with exact masks.

Drawn for pretraining and for jobs that must run without a download. Every picture is a pure function of its index and
a seed, so a data set of any length needs no files. Four kinds:

- `vessels`: one or two branching trees (arteries over veins), 1 to 14 pixels wide, tapering and forking by Murray's
  law, straight to tortuous, dark on bright or bright on dark, with or without central reflex; retinal photographs,
  angiograms, and arbitrary colours. Not in the mask: optic disc, macula, bleedings, drusen, exudates, choroid.
- `cracks`: self-similar cracks on asphalt, concrete, stone and plaster. Not in the mask: stones, pores, stains,
  paint, shadows.
- `roads`: town grids and country roads from above. Not in the mask: houses, fields, trees. Where a tree hides a
  piece of a road, that piece stays in the mask.
- `blobs`: polyps, lesions, and water bounded by a coast (optical or radar). Not in the mask: folds, highlights,
  specks.

A fifth kind, `arteries_veins`, is drawn only alone: fundus photographs with a map of arteries and one of veins.

Three more are drawn where they are asked for, to pretrain the embedded base:

- `networks`: trees, lines, fibres and meshes 1 to 30 pixels wide, bright or dark, as flat bands, ridges or tubes, on
  any ground, with speckle, stripes, blur and compression: roots, neurites, hair, rivers, membranes, angiograms. Not in
  the mask: bodies, patches, rectangles, lines too faint to count.
- `variants`: vessels, cracks and roads enlarged up to 3.5 times, as negatives, in haze or in grey.
- `aerial`: roads up to 30 pixels wide, among roofs as bright and as straight as they are.

Masks are exact: a pixel is foreground when the structure covers at least half of its area (vessels, cracks, roads) or
its centre (blobs). Widths are in pixels whatever the size of the picture.
"""

import lazy_loader as lazy

SHARES = {"vessels": 0.55, "cracks": 0.2, "roads": 0.15, "blobs": 0.1}  # thin structures matter most here
KINDS = tuple(SHARES)
SHARES |= {"networks": 0.6, "variants": 0.4, "aerial": 0.15}  # relative to those, where they are asked for
ALL_KINDS = tuple(SHARES)

__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={"picture": ["SMALLEST_SIZE", "draw_synthetic"]})
