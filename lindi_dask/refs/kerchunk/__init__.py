"""kerchunk's own: `templates` and `gen` of its JSON, and its parquet folders. Pure; records come by a callable."""
