"""Tags, engineering units, the process image, and the devices behind them. Imports none of the other packages."""
