"""Procedural materials. Each carries its CamVid class id as `pass_index`, which the label render reads."""

import bpy

from .classes import BUILDING, PAVEMENT, ROAD, TREE


def linear(colour):
    """sRGB components 0..1 to scene-linear RGBA."""
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour) + (1.0,)


def scaled(colour, factor):
    return tuple(min(1.0, c * factor) for c in colour)


class NodeGraph:
    """Short-hand for building a shader node tree."""

    def __init__(self, material):
        material.use_nodes = True
        self.tree = material.node_tree
        self.shader = self.tree.nodes["Principled BSDF"]

    def node(self, kind, inputs=None, **properties):
        made = self.tree.nodes.new(kind)
        for key, value in properties.items():
            setattr(made, key, value)
        for key, value in (inputs or {}).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, made.inputs[key])
            else:
                made.inputs[key].default_value = value
        return made

    def metres(self, stretch=(1, 1, 1)):
        uv = self.node("ShaderNodeTexCoord").outputs["UV"]
        return self.node("ShaderNodeVectorMath", {0: uv, 1: stretch}, operation="MULTIPLY").outputs[0]

    def noise(self, scale, detail=2, vector=None, low=0.35, high=0.65, to=(0.0, 1.0)):
        """Fractal noise between `low` and `high`, mapped to the range `to` and clamped."""
        raw = self.node("ShaderNodeTexNoise", {"Vector": vector or self.metres(), "Scale": scale, "Detail": detail})
        spread = self.node("ShaderNodeMapRange", {"Value": raw.outputs["Fac"], "From Min": low, "From Max": high,
                                                  "To Min": to[0], "To Max": to[1]})
        return spread.outputs[0]

    def mix(self, fac, a, b, blend="MIX"):
        return self.node("ShaderNodeMixRGB", {"Fac": fac, "Color1": a, "Color2": b}, blend_type=blend).outputs[0]

    def times(self, colour, factor):
        """Colour socket times a grey factor socket."""
        return self.mix(1.0, colour, factor, "MULTIPLY")

    def finish(self, colour, roughness=0.9, specular=0.2):
        """Sets the surface. Rough surfaces are purely diffuse: a fifth less time than with a faint gloss."""
        if roughness >= 0.6:
            diffuse = self.node("ShaderNodeBsdfDiffuse", {"Color": colour})
            self.tree.links.new(diffuse.outputs[0], self.tree.nodes["Material Output"].inputs[0])
            return
        if isinstance(colour, bpy.types.NodeSocket):
            self.tree.links.new(colour, self.shader.inputs["Base Color"])
        else:
            self.shader.inputs["Base Color"].default_value = colour
        self.shader.inputs["Roughness"].default_value = roughness
        self.shader.inputs["Specular"].default_value = specular


class Materials:
    """Makes each material once for a given set of arguments."""

    def __init__(self, rng, weather="day"):
        self.rng, self.made = rng, {}
        self.night, self.wet = weather == "night", weather == "rain"

    def _get(self, key, class_id, build):
        if key not in self.made:
            material = bpy.data.materials.new("-".join(str(part) for part in key)[:40] + str(len(self.made)))
            material.pass_index = class_id
            build(NodeGraph(material))
            self.made[key] = material
        return self.made[key]

    def plain(self, class_id, colour, roughness=0.8, specular=0.25, mottle=0.0, scale=3.0, glow=0.0):
        """One colour; `mottle` is the strength of dirt and fading, `glow` makes it shine (lamps)."""

        def build(g):
            base = linear(colour)
            if mottle:
                base = g.times(g.node("ShaderNodeRGB").outputs[0], g.noise(scale, 3, to=(1 - mottle, 1.0)))
                g.tree.nodes["RGB"].outputs[0].default_value = linear(colour)
            if glow:
                g.shader.inputs["Emission"].default_value = linear(colour)
                g.shader.inputs["Emission Strength"].default_value = glow
            g.finish(base, roughness, specular)

        return self._get(("plain", class_id, colour, roughness, specular, mottle, scale, glow), class_id, build)

    def lamp(self, class_id, colour, by_day=0.0, by_night=6.0, **gloss):
        """What shines at night."""
        return self.plain(class_id, colour, glow=by_night if self.night else by_day, **gloss)

    def glass(self, class_id, tint=(0.10, 0.12, 0.14)):
        return self._get(("glass", class_id, tint), class_id, lambda g: g.finish(linear(tint), 0.06, 0.75))

    def paint(self, class_id, colour):
        """Car paint."""

        def build(g):
            g.shader.inputs["Clearcoat"].default_value = 0.6
            g.shader.inputs["Clearcoat Roughness"].default_value = 0.08
            g.finish(linear(colour), 0.35, 0.45)

        return self._get(("paint", class_id, colour), class_id, build)

    def brick(self, colour, mortar=(0.68, 0.66, 0.62), class_id=BUILDING):
        def build(g):
            tex = g.node("ShaderNodeTexBrick", {
                "Vector": g.metres(), "Color1": linear(colour), "Color2": linear(scaled(colour, 0.78)),
                "Mortar": linear(mortar), "Scale": 1.0, "Mortar Size": 0.012, "Brick Width": 0.24, "Row Height": 0.085,
                "Bias": -0.1})
            dirt = g.noise(0.5, 4, to=(0.68, 1.05))
            streak = g.noise(1.2, 2, g.metres((1, 0.12, 1)), to=(0.85, 1.0))
            g.finish(g.times(g.times(tex.outputs["Color"], dirt), streak))

        return self._get(("brick", colour, mortar, class_id), class_id, build)

    def plaster(self, colour, class_id=BUILDING):
        def build(g):
            base = g.mix(g.noise(0.6, 4), linear(colour), linear(scaled(colour, 0.88)))
            g.finish(g.times(base, g.noise(1.1, 3, g.metres((1, 0.1, 1)), to=(0.8, 1.0))))

        return self._get(("plaster", colour, class_id), class_id, build)

    def tiles(self, colour):
        """Roof tiles or slates."""

        def build(g):
            tex = g.node("ShaderNodeTexBrick", {
                "Vector": g.metres(), "Color1": linear(colour), "Color2": linear(scaled(colour, 0.75)),
                "Mortar": linear(scaled(colour, 0.45)), "Scale": 1.0, "Mortar Size": 0.02, "Brick Width": 0.3,
                "Row Height": 0.22})
            g.finish(g.times(tex.outputs["Color"], g.noise(0.7, 3, to=(0.7, 1.05))), 0.75)

        return self._get(("tiles", colour), BUILDING, build)

    def slabs(self, colour, width=0.6, height=0.6, class_id=PAVEMENT):
        """Paving slabs (or with long width, kerb stones)."""

        def build(g):
            tex = g.node("ShaderNodeTexBrick", {
                "Vector": g.metres(), "Color1": linear(colour), "Color2": linear(scaled(colour, 0.92)),
                "Mortar": linear(scaled(colour, 0.6)), "Scale": 1.0, "Mortar Size": 0.012, "Brick Width": width,
                "Row Height": height})
            stain = g.times(tex.outputs["Color"], g.noise(0.8, 4, to=(0.72, 1.05)))
            g.finish(g.times(stain, g.noise(60, 1, to=(0.88, 1.08))))

        return self._get(("slabs", colour, width, height, class_id), class_id, build)

    def tarmac(self, colour, lane=0.0, class_id=ROAD):
        """Asphalt with grain, blotches, mended patches, worn wheel tracks and dark seams.

        UV is (offset from the road's centre, distance along it); `lane` is the offset of the lanes' centres.
        """

        shift, depth = (self.rng.uniform(0, 90), self.rng.uniform(0, 90), 0), self.rng.uniform(0.62, 1.0)

        def build(g):
            uv = g.node("ShaderNodeVectorMath", {0: g.metres(), 1: shift}, operation="ADD").outputs[0]
            base = g.node("ShaderNodeRGB").outputs[0]
            g.tree.nodes["RGB"].outputs[0].default_value = linear(colour)
            grain = g.times(base, g.noise(55, 2, to=(0.72, 1.28)))
            blotch = g.times(grain, g.noise(0.35, 4, g.metres((1, 0.35, 1)), to=(0.78, 1.15)))
            cells = g.node("ShaderNodeTexVoronoi", {"Vector": g.metres((0.25, 0.1, 1)), "Scale": 1.0}, distance="CHEBYCHEV")
            mended = g.node("ShaderNodeMapRange", {"Value": cells.outputs["Color"], "From Min": 0.72, "From Max": 0.74,
                                                   "To Min": 1.0, "To Max": 0.8}).outputs[0]
            out = g.times(blotch, mended)
            warp = g.node("ShaderNodeVectorMath", {0: uv, 1: g.node(
                "ShaderNodeTexNoise", {"Vector": uv, "Scale": 0.8, "Detail": 3}).outputs["Color"]}, operation="ADD").outputs[0]
            edge = g.node("ShaderNodeTexVoronoi", {"Vector": warp, "Scale": 0.22}, feature="DISTANCE_TO_EDGE")
            crack = g.node("ShaderNodeMapRange", {"Value": edge.outputs["Distance"], "From Min": 0.002, "From Max": 0.008,
                                                  "To Min": depth, "To Max": 1.0}).outputs[0]
            out = g.times(out, crack)
            if lane:
                x = g.node("ShaderNodeSeparateXYZ", {0: g.metres()}).outputs[0]
                side = g.node("ShaderNodeMath", {0: x}, operation="ABSOLUTE").outputs[0]
                off = g.node("ShaderNodeMath", {0: side, 1: lane}, operation="SUBTRACT").outputs[0]
                track = g.node("ShaderNodeMath", {0: g.node("ShaderNodeMath", {0: g.node(
                    "ShaderNodeMath", {0: off}, operation="ABSOLUTE").outputs[0], 1: 0.75}, operation="SUBTRACT").outputs[0]},
                    operation="ABSOLUTE").outputs[0]
                worn = g.node("ShaderNodeMapRange", {"Value": track, "From Min": 0.05, "From Max": 0.45,
                                                     "To Min": 1.14, "To Max": 1.0}).outputs[0]
                out = g.times(out, worn)
            if self.wet:
                g.finish(g.times(out, g.noise(0.3, 3, to=(0.45, 0.8))), 0.3, 0.45)
            else:
                g.finish(out, 0.78, 0.3)

        return self._get(("tarmac", colour, lane, class_id), class_id, build)

    def marking(self, colour, under, wear):
        """Road paint that lets the asphalt show where it is worn (`wear` 0..1)."""

        def build(g):
            paint = g.times(g.mix(0.0, linear(colour), linear(colour)), g.noise(4, 3, to=(0.8, 1.0)))
            gone = g.noise(9, 5, low=0.62 - 0.25 * wear, high=0.72 - 0.2 * wear)
            g.finish(g.mix(gone, paint, linear(under)), 0.7)

        return self._get(("marking", colour, under, wear), ROAD, build)

    def leaves(self, colour):
        """Foliage: hue and brightness vary between leaves and between the instances of a tree."""

        def build(g):
            where = g.node("ShaderNodeTexCoord").outputs["Object"]
            near = g.mix(g.noise(2.5, 2, where), linear(scaled(colour, 0.75)), linear(scaled(colour, 1.2)))
            own = g.node("ShaderNodeObjectInfo").outputs["Random"]
            hue = g.node("ShaderNodeMapRange", {"Value": own, "To Min": 0.475, "To Max": 0.515}).outputs[0]
            value = g.node("ShaderNodeMapRange", {"Value": own, "To Min": 0.75, "To Max": 1.2}).outputs[0]
            g.finish(g.node("ShaderNodeHueSaturation", {"Hue": hue, "Value": value, "Color": near}).outputs[0], 0.7, 0.2)

        return self._get(("leaves", colour), TREE, build)

    def grass(self, colour):
        def build(g):
            fine = g.mix(g.noise(30, 2), linear(scaled(colour, 0.6)), linear(colour))
            g.finish(g.times(fine, g.noise(0.7, 3, to=(0.7, 1.1))), 0.9, 0.1)

        return self._get(("grass", colour), TREE, build)

    def hide(self, class_id, dark, light, scale=1.5):
        """Animal coat with hard-edged patches."""

        def build(g):
            where = g.node("ShaderNodeTexCoord").outputs["Object"]
            g.finish(g.mix(g.noise(scale, 2, where, 0.50, 0.53), linear(dark), linear(light)), 0.8, 0.15)

        return self._get(("hide", class_id, dark, light), class_id, build)
