"""Every config file, installed as a package so that one search path finds them everywhere."""
