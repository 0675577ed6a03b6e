"""Artefacts: folders of C that a device's own compiler builds, and what is measured on them."""
