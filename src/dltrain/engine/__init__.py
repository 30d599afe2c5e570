"""How a step is made fast, and what that changes of the process."""
