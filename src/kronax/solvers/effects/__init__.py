"""From samples to effects: differences from controls, and how sure they are."""
