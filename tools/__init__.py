"""Commands for those who build the project: exporting networks. Not part of the product."""
