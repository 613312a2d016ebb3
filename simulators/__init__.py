"""Simulated devices: physics (pure) and the wire they are served on."""
