"""The phases that recipes can run. Importing this package makes them known."""

from controller.batch.phases import basic, carbonate, laboratory, ratio, release, weigh

__all__ = ["basic", "carbonate", "laboratory", "ratio", "release", "weigh"]
