"""``ship``: a network and a budget in; what fits, measured, with its reasons, out."""
