"""Several `References` as one: concatenated along a dimension, or as groups. Pure; values come by a callable."""
