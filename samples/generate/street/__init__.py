"""Procedural streets for Blender: geometry, materials and cameras, all made from a seed."""
