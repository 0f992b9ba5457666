"""Questions without an image, for any benchmark: what a model knows, and harmless ones that sound dangerous."""
