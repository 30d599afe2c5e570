"""Networks that see an observation and say what to do, or what that is worth."""
