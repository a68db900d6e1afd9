"""What zarrshadow adds to Zarr v3 references: `selections`, and `indexes` in files of their own. Pure."""
