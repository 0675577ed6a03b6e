"""Artefacts: folders of C that a device's own compiler builds, and what is measured on them."""

from shohin import kernels  # an artefact has the kernels, whoever asks for it

assert kernels
