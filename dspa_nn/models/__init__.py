"""The models: what is known of one, the presets, the embedded one."""
