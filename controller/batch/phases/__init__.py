"""The phases that recipes can run. Importing this package makes them known."""

from controller.batch.phases import basic, laboratory, ratio, release, weigh

__all__ = ["basic", "laboratory", "ratio", "release", "weigh"]
