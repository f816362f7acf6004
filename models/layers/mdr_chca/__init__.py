"""Layers of MDR-CHCA."""
