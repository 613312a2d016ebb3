"""The controller of a process cell: pure core, batches, historian, and the service that runs them."""

__version__ = "0.1.0"
