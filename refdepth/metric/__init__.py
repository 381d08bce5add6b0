"""How many metres a unit of structure from motion is, and where up is: known distances, printed
tags, GPS; each with its error, and what contradicts what."""
