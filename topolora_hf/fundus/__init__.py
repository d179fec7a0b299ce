"""Fundus photographs: their field of view, scale and colours."""
