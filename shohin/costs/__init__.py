"""Cost models: what a network takes on a device, by place, before it is trained; fitted to counts and timings."""
