"""Images with masks, which say of each pixel what it is."""
