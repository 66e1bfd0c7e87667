"""Sky, sun, lamps, camera and Cycles settings; renders the picture and the class ids in one go.

light() comes before settings(), outputs() last.
"""

import os
from math import cos, pi, radians, sin, tan

import bpy
from mathutils import Matrix

from .materials import linear


def reset():
    """An empty scene (also frees all data of the last street)."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


def light(scene, weather):
    """Sun lamp and sky of a `Weather`. Clouds are seen by the camera only; everything else is lit by a smooth gradient."""
    gain = weather.gain()
    lamp = bpy.data.lights.new("sun", "SUN")
    lamp.energy, lamp.angle, lamp.color = weather.sun * gain, radians(weather.softness), (1.0, 0.94, 0.86)
    sun = bpy.data.objects.new("sun", lamp)
    azimuth, elevation = radians(weather.azimuth), radians(weather.elevation)
    sun.matrix_world = Matrix.Rotation(-azimuth, 4, "Z") @ Matrix.Rotation(pi / 2 - elevation, 4, "X")
    sun.lightgroup = "sun"
    scene.collection.objects.link(sun)

    world = bpy.data.worlds.new("sky")
    scene.world = world
    world.lightgroup = "sky"
    world.use_nodes = True
    world.cycles.sampling_method = "NONE"
    tree = world.node_tree
    new, link = tree.nodes.new, tree.links.new

    def math(operation, a, b):
        node = new("ShaderNodeMath")
        node.operation = operation
        for slot, value in zip(node.inputs, (a, b)):
            if isinstance(value, bpy.types.NodeSocket):
                link(value, slot)
            else:
                slot.default_value = value
        return node.outputs[0]

    def mix(fac, a, b):
        node = new("ShaderNodeMixRGB")
        for slot, value in zip(node.inputs, (fac, a, b)):
            if isinstance(value, bpy.types.NodeSocket):
                link(value, slot)
            else:
                slot.default_value = value
        return node.outputs[0]

    where = new("ShaderNodeTexCoord").outputs["Generated"]
    axes = new("ShaderNodeSeparateXYZ")
    link(where, axes.inputs[0])
    height = math("MAXIMUM", axes.outputs[2], 0.0)
    gradient = mix(math("POWER", height, 0.55), linear(weather.horizon), linear(weather.zenith))
    flat = new("ShaderNodeCombineXYZ")
    spread = math("ADD", height, 0.12)
    link(math("DIVIDE", axes.outputs[0], spread), flat.inputs[0])
    link(math("DIVIDE", axes.outputs[1], spread), flat.inputs[1])
    flat.inputs[2].default_value = weather.drift
    noise = new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = 0.55, 6
    noise.inputs["Roughness"].default_value = 0.55
    link(flat.outputs[0], noise.inputs["Vector"])
    lower = 0.66 - 0.42 * weather.cover
    cover = new("ShaderNodeMapRange")
    link(noise.outputs["Fac"], cover.inputs[0])
    cover.inputs[1].default_value, cover.inputs[2].default_value = lower, lower + 0.22
    seen = mix(cover.outputs[0], gradient, linear(weather.cloud))
    rays = new("ShaderNodeLightPath")
    clear, sky = new("ShaderNodeBackground"), tree.nodes["Background"]
    link(seen, clear.inputs[0])
    clear.inputs[1].default_value = weather.glare
    soft = mix(weather.cover * 0.7, linear(weather.zenith), (0.9, 0.92, 0.95, 1))
    link(mix(math("POWER", height, 0.4), (0.75, 0.77, 0.8, 1), soft), sky.inputs[0])
    sky.inputs[1].default_value = weather.ambient * gain
    switch = new("ShaderNodeMixShader")
    link(rays.outputs["Is Camera Ray"], switch.inputs[0])
    link(sky.outputs[0], switch.inputs[1])
    link(clear.outputs[0], switch.inputs[2])
    link(switch.outputs[0], tree.nodes["World Output"].inputs[0])


def lamp(scene, matrix, watts, colour, cone=None):
    """A lamp that shines down its z axis, to all sides or in a cone of so many degrees."""
    data = bpy.data.lights.new("lamp", "SPOT" if cone else "POINT")
    data.energy, data.color, data.shadow_soft_size = watts, colour, 0.15
    if cone:
        data.spot_size, data.spot_blend = radians(cone), 0.6
    made = bpy.data.objects.new("lamp", data)
    made.matrix_world = matrix
    made.lightgroup = "sun"
    scene.collection.objects.link(made)
    return made


def headlights(scene, cam):
    """Two dipped headlights below the camera, which move with it."""
    for side in (-0.65, 0.65):
        made = lamp(scene, Matrix.Identity(4), 9000.0, (1.0, 0.93, 0.82), 62)
        made.parent = cam
        made.matrix_local = Matrix.Translation((side, -0.6, -0.8)) @ Matrix.Rotation(radians(-3), 4, "X")


def camera(scene, view):
    """Camera with a horizontal field of view of `view` degrees."""
    data = bpy.data.cameras.new("dashcam")
    data.sensor_width, data.lens = 36.0, 18.0 / tan(radians(view) / 2)
    data.clip_end = 600
    made = bpy.data.objects.new("dashcam", data)
    scene.collection.objects.link(made)
    scene.camera = made
    return made


def aim(cam, frame, height, pitch=0.0, yaw=0.0, roll=0.0):
    """Puts the camera above the road placement `frame`, looking along its y axis; angles in degrees."""
    cam.matrix_world = (frame @ Matrix.Translation((0, 0, height)) @ Matrix.Rotation(radians(-yaw), 4, "Z")
                        @ Matrix.Rotation(radians(90 + pitch), 4, "X") @ Matrix.Rotation(radians(roll), 4, "Z"))


def settings(scene, samples, size=(640, 360)):
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.use_persistent_data = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.compression = 15
    scene.render.filter_size = 1.3
    scene.view_settings.view_transform = "Standard"
    c = scene.cycles
    c.device, c.samples, c.use_denoising = "CPU", samples, False
    c.use_adaptive_sampling = False
    c.max_bounces, c.diffuse_bounces, c.glossy_bounces = 1, 1, 1
    c.use_fast_gi, c.fast_gi_method, c.ao_bounces_render = True, "REPLACE", 1
    scene.world.light_settings.distance = 15.0
    c.transmission_bounces = c.volume_bounces = c.transparent_max_bounces = 0
    c.caustics_reflective = c.caustics_refractive = False
    c.sample_clamp_direct, c.sample_clamp_indirect, c.blur_glossy = 8.0, 1.0, 1.0
    c.debug_use_spatial_splits = False


def outputs(scene, folder, haze=None, glow=False):
    """Compositor: smooths the skylight and writes the class ids.

    `haze` is (metres in which two thirds of the light are lost, linear colour); `glow` shows what shines by itself.

    The sun's light is nearly free of noise and keeps its sharp shadows. The sky's light is noisy at few samples but
    varies slowly: it is divided by the albedo, smoothed where albedo and normal agree, and multiplied back.
    Class ids are the material indices of each pixel's first hit (not antialiased), as grey PNGs `ids_####.png`.
    """
    layer = scene.view_layers[0]
    layer.use_pass_material_index = layer.use_pass_normal = layer.use_pass_diffuse_color = True
    for name in ("sun", "sky"):
        layer.lightgroups.add(name=name)
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    layers = tree.nodes.new("CompositorNodeRLayers")

    def mix(operation, a, b):
        node = tree.nodes.new("CompositorNodeMixRGB")
        node.blend_type = operation
        for slot, value in zip(node.inputs[1:], (a, b)):
            if isinstance(value, bpy.types.NodeSocket):
                tree.links.new(value, slot)
            else:
                slot.default_value = value
        return node.outputs[0]

    albedo = mix("ADD", layers.outputs["DiffCol"], (0.1, 0.1, 0.1, 0))
    guide = mix("ADD", albedo, mix("MULTIPLY", layers.outputs["Normal"], (0.5, 0.5, 0.5, 0)))
    smooth = tree.nodes.new("CompositorNodeBilateralblur")
    smooth.iterations, smooth.sigma_color, smooth.sigma_space = 1, 0.22, 3.0
    tree.links.new(mix("DIVIDE", layers.outputs["Combined_sky"], albedo), smooth.inputs[0])
    tree.links.new(guide, smooth.inputs[1])
    picture = mix("ADD", mix("MULTIPLY", smooth.outputs[0], albedo), layers.outputs["Combined_sun"])
    if glow:
        layer.use_pass_emit = True
        picture = mix("ADD", picture, layers.outputs["Emit"])
    if haze:
        distance, colour = haze
        layer.use_pass_z = True
        depth = layers.outputs["Depth"]
        for operation, value in (("MULTIPLY", -1.0 / distance), ("EXPONENT", 0.0)):
            node = tree.nodes.new("CompositorNodeMath")
            node.operation = operation
            tree.links.new(depth, node.inputs[0])
            node.inputs[1].default_value = value
            depth = node.outputs[0]
        veil = tree.nodes.new("CompositorNodeMixRGB")
        veil.inputs[1].default_value = colour
        tree.links.new(depth, veil.inputs[0])
        tree.links.new(picture, veil.inputs[2])
        picture = veil.outputs[0]
    final = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(picture, final.inputs[0])

    shrink = tree.nodes.new("CompositorNodeMath")
    shrink.operation = "DIVIDE"
    shrink.inputs[1].default_value = 255.0
    tree.links.new(layers.outputs["IndexMA"], shrink.inputs[0])
    target = tree.nodes.new("CompositorNodeOutputFile")
    target.base_path = folder
    target.format.file_format, target.format.color_mode, target.format.color_depth = "PNG", "BW", "8"
    target.format.color_management = "OVERRIDE"
    target.format.view_settings.view_transform = "Raw"
    target.file_slots[0].path = "ids_####"
    tree.links.new(shrink.outputs[0], target.inputs[0])


def shoot(scene, folder, number):
    """Renders the current state as rgb_####.png and ids_####.png in `folder`."""
    scene.frame_set(number)
    scene.render.filepath = os.path.join(folder, f"rgb_{number:04d}.png")
    bpy.ops.render.render(write_still=True)
