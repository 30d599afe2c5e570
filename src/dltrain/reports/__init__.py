"""From arrays to tables and figures; the only place that imports matplotlib."""
