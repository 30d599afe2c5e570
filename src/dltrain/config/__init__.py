"""From a command line to a checked config, and from a config node to an object."""
