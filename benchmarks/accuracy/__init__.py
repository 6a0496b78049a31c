"""How well copies are found: edited queries, the field's measures, the whole cascade beside other methods."""
