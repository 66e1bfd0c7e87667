"""CamVid class ids (SegNet's eleven classes and void) as used by the label render."""

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, VOID = range(12)

# Things of no CamVid class: they are drawn with this id in the class-label render.
UNKNOWN = 254
