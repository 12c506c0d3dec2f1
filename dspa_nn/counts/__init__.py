"""Integer counts of active latents: the only step that runs the model."""
